import { InternalError } from "../base/errors.ts";
import { sameShape, showShape } from "./dim.ts";
import { Capture, type Graph, type Node, type TensorType } from "./graph.ts";
import { nodeNames } from "./print.ts";

const show = ({ dtype, shape }: TensorType): string => `${dtype}${showShape(shape)}`;

/** Checks that a graph is well formed; the error names the rule, the node and, where given, the pass before. */
export function verify(graph: Graph, after = "construction"): Graph {
  const names = nodeNames(graph);
  const seen = new Set<Node>();
  const require = (node: Node, holds: boolean, rule: string): void => {
    if (holds) return;
    const where = `${graph.name} after ${after}: ${names.get(node) ?? "?"} (${node.op.name})`;
    throw new InternalError("verify", `${where}: ${rule}`);
  };
  for (const node of graph.nodes) {
    const { op, inputs, attrs } = node;
    require(node, op.name !== "placeholder", "a placeholder of a pattern is left in the graph");
    for (const [key, value] of Object.entries(attrs))
      require(node, !(value instanceof Capture), `attribute ${key} is still a capture`);
    for (const input of inputs)
      require(node, seen.has(input), "an input is computed after its use");
    const { type } = node;
    const inferred = op.kind === "source" ? type : op.infer(node);
    const same = inferred.dtype === type.dtype && sameShape(inferred.shape, type.shape);
    require(node, same, `expected ${show(inferred)}, got ${show(type)}`);
    seen.add(node);
  }
  for (const { node } of graph.outputs)
    require(node, seen.has(node), "an output is not among the nodes");
  return graph;
}
