import { sameShape } from "../ir/dim.ts";
import { Node, rewrite, withInputs, type Graph } from "../ir/graph.ts";
import * as ops from "../ops/index.ts";
import type { KvType } from "../quant/kv-page.ts";
import { takeEarly } from "./take-early.ts";
import { isIntegerWeight, type WeightShapes } from "./weights.ts";

export interface Precision {
  /** How the inputs of integer matmuls are rounded. */
  readonly digits: ops.Digits;
  readonly kv: KvType;
}

export type Pass = readonly [name: string, run: (graph: Graph) => Graph];

/** The passes in order. Each looks at the graph alone, never at which pass ran before. */
export const passesFor = ({ digits, kv }: Precision, weights: WeightShapes): readonly Pass[] => [
  ["simplify", simplify],
  ["take-early", takeEarly],
  ["round-cache", (graph) => roundCache(graph, kv)],
  ["round-linear-inputs", (graph) => roundLinearInputs(graph, digits, weights)],
  ["merge-equal", mergeEqual],
];

/** Joins reshapes of reshapes and drops those that change nothing. */
const simplify = (graph: Graph): Graph =>
  rewrite(graph, (node, inputs) => {
    if (!ops.isReshape(node)) return withInputs(node, inputs);
    const from = ops.isReshape(inputs[0]) ? inputs[0].inputs[0] : inputs[0];
    return sameShape(from.shape, node.shape) ? from : ops.reshape(from, node.shape);
  });

/** Says in the graph how the cache rounds keys and values. */
const roundCache = (graph: Graph, kv: KvType): Graph =>
  rewrite(graph, (node, inputs) =>
    ops.isCacheOp(node)
      ? new Node(node.op, inputs, { ...node.attrs, kv })
      : withInputs(node, inputs),
  );

/**
 * Says in the graph where activations are rounded: before every linear whose weight is stored as integers. Those behind the last
 * attention get two digits: nothing averages their errors any more, and they run on the rows that are asked for.
 */
function roundLinearInputs(graph: Graph, digits: ops.Digits, weights: WeightShapes): Graph {
  const attended = new Set<Node>();
  for (const node of graph.nodes.toReversed())
    if (ops.isCacheOp(node) || attended.has(node))
      for (const input of node.inputs) attended.add(input);
  const isIn = (node: Node): boolean => attended.size === 0 || attended.has(node);
  return rewrite(graph, (node, inputs) => {
    const [x, weight] = inputs;
    const isRounded =
      ops.isLinear(node) && ops.isParam(weight) && isIntegerWeight(weights, weight.string("name"));
    if (!isRounded) return withInputs(node, inputs);
    return ops.linear(ops.roundActivations(x, isIn(node) ? digits : 2), weight);
  });
}

/** Merges nodes that compute the same thing from the same values. */
function mergeEqual(graph: Graph): Graph {
  const known = new Map<string, Node>();
  const ids = new Map<Node, number>();
  const idOf = (node: Node): number => {
    const id = ids.get(node) ?? ids.size;
    ids.set(node, id);
    return id;
  };
  return rewrite(graph, (node, inputs) => {
    const same = withInputs(node, inputs);
    if (node.op.effect || node.op.kind === "source" || node.op.kind === "cache") return same;
    const key = `${node.op.name}(${inputs.map(idOf).join()})${JSON.stringify(node.attrs)}`;
    const before = known.get(key);
    if (before === undefined) known.set(key, same);
    return before ?? same;
  });
}
