import { sameShape } from "../ir/dim.ts";
import { isArithmetic, Node, rewrite, type Graph } from "../ir/graph.ts";
import { verify } from "../ir/verify.ts";
import * as ops from "../ops/index.ts";
import type { KvType } from "../quant/kv-page.ts";
import { modelFacts, type WeightShapes } from "./weights.ts";

export interface Precision {
  /** How the inputs of integer matmuls are rounded. */
  readonly digits: ops.Digits;
  readonly kv: KvType;
}

type Pass = readonly [name: string, run: (graph: Graph) => Graph];

/** The passes in order. Each looks at the graph alone, never at which pass ran before. */
export const passesFor = ({ digits, kv }: Precision, weights: WeightShapes): readonly Pass[] => [
  ["simplify", simplify],
  ["take-early", takeEarly],
  ["round-cache", (graph) => roundCache(graph, kv)],
  ["round-linear-inputs", (graph) => roundLinearInputs(graph, digits, weights)],
  ["merge-equal", mergeEqual],
];

/** Called with the graph after each pass, which is then verified. */
export type OnPass = (graph: Graph, pass: string) => void;

/** Applies the passes in order. What was traced is verified always, what passes make of it for those who look at it. */
export function applyPasses(graph: Graph, passes: readonly Pass[], onPass?: OnPass): Graph {
  let current = verify(graph);
  onPass?.(current, "trace");
  for (const [name, run] of passes) {
    current = run(current);
    onPass?.(verify(current, name), name);
  }
  return current;
}

/** Joins reshapes of reshapes and drops those that change nothing. */
const simplify = (graph: Graph): Graph =>
  rewrite(graph, (node) => {
    if (!ops.isReshape(node)) return node;
    const [input] = node.inputs;
    const from = ops.isReshape(input) ? input.inputs[0] : input;
    return sameShape(from.shape, node.shape) ? from : ops.reshape(from, node.shape);
  });

/** The name of the size that counts a value's rows; parameters have none. */
const rowsOf = ({ shape }: Node): string | undefined =>
  shape.length > 1 && typeof shape[0] === "object" ? shape[0].name : undefined;

/** Whether each row of the result follows from the same row of the inputs that have rows. */
const isRowWise = (node: Node): boolean =>
  rowsOf(node) !== undefined && (isArithmetic(node.op) || ops.isColumns(node));

const isTakeOfRows = (node: Node): boolean =>
  ops.isTake(node) && node.inputs.slice(1).every(({ op }) => op.kind === "source");

/**
 * Takes rows before the work on them and not after it: what leads to nothing but a `take` (or `last_row`), row by row, is done
 * for the rows that are taken. In a decoder's prefill that is all of the last layer behind its attention.
 */
function takeEarly(graph: Graph): Graph {
  const takes = takesOf(graph);
  return rewrite(graph, (node, before) => {
    const take = takes.get(before);
    if (take === undefined) return node;
    const isTaken = (at: number): boolean => takes.get(before.inputs[at]) === take;
    if (before === take) return isTaken(0) ? node.inputs[0] : node;
    const taken = node.inputs.map((input, at) =>
      isTaken(at) || rowsOf(before.inputs[at]) !== rowsOf(before)
        ? input
        : new Node(take.op, [input, ...take.inputs.slice(1)], take.attrs),
    );
    return new Node(node.op, taken, node.attrs);
  });
}

/** Of each node that leads to one take only: that take. */
function takesOf({ nodes, outputs }: Graph): Map<Node, Node> {
  const takes = new Map<Node, Node>();
  const users = new Map<Node, Set<Node | undefined>>();
  const use = (node: Node, take: Node | undefined): unknown =>
    users.set(node, (users.get(node) ?? new Set()).add(take));
  for (const { node } of outputs) use(node, undefined);
  for (const node of nodes.toReversed()) {
    const [take, ...others] = users.get(node) ?? [];
    if (isTakeOfRows(node)) takes.set(node, node);
    else if (take !== undefined && others.length === 0 && isRowWise(node)) takes.set(node, take);
    for (const input of node.inputs) use(input, takes.get(node));
  }
  return takes;
}

/** Says in the graph how the cache rounds keys and values. */
const roundCache = (graph: Graph, kv: KvType): Graph =>
  rewrite(graph, (node) =>
    ops.isCacheOp(node) ? new Node(node.op, node.inputs, { ...node.attrs, kv }) : node,
  );

/**
 * Says in the graph where activations are rounded: before every linear whose weight is stored as integers. Those behind the last
 * attention get two digits: nothing averages their errors any more, and they run on the rows that are asked for.
 */
function roundLinearInputs(graph: Graph, digits: ops.Digits, weights: WeightShapes): Graph {
  const { isInteger } = modelFacts(weights);
  const attended = new Set<Node>();
  for (const node of graph.nodes.toReversed())
    if (ops.isCacheOp(node) || attended.has(node))
      for (const input of node.inputs) attended.add(input);
  const isIn = (node: Node): boolean => attended.size === 0 || attended.has(node);
  return rewrite(graph, (node, before) => {
    const [x, weight] = node.inputs;
    if (!ops.isLinear(node) || !ops.isParam(weight) || !isInteger(weight)) return node;
    return ops.linear(ops.roundActivations(x, isIn(before) ? digits : 2), weight);
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
  return rewrite(graph, (node) => {
    const { op, inputs, attrs } = node;
    if (op.effect || op.kind === "source" || op.kind === "cache") return node;
    const key = `${op.name}(${inputs.map(idOf).join()})${JSON.stringify(attrs)}`;
    const same = known.get(key) ?? node;
    known.set(key, same);
    return same;
  });
}
