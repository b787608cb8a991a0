import { InternalError } from "../base/errors.ts";
import { Capture, type Graph, type Node } from "./graph.ts";
import { nodeNames, showType } from "./print.ts";

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
    const isOrdered = inputs.every((input) => seen.has(input));
    require(node, isOrdered, "an input is computed after its use");
    const expected = showType(op.kind === "source" ? node.type : op.infer(node));
    const got = showType(node.type);
    require(node, expected === got, `expected ${expected}, got ${got}`);
    seen.add(node);
  }
  for (const { node } of graph.outputs)
    require(node, seen.has(node), "an output is not among the nodes");
  return graph;
}
