import { InternalError } from "../base/errors.ts";
import { sameShape, showShape } from "./dim.ts";
import { Capture, type Graph, type Node } from "./graph.ts";
import { nodeNames } from "./print.ts";

/** Checks that a graph is well formed; the error names the rule, the node and, where given, the pass before. */
export function verify(graph: Graph, after = "construction"): Graph {
  const names = nodeNames(graph);
  const seen = new Set<Node>();
  const fail = (node: Node, rule: string): never => {
    const where = `${graph.name} after ${after}: ${names.get(node) ?? "?"} (${node.op.name})`;
    throw new InternalError("verify", `${where}: ${rule}`);
  };
  for (const node of graph.nodes) {
    if (node.op.name === "placeholder")
      fail(node, "a placeholder of a pattern is left in the graph");
    for (const [key, value] of Object.entries(node.attrs))
      if (value instanceof Capture) fail(node, `attribute ${key} is still a capture`);
    for (const input of node.inputs)
      if (!seen.has(input)) fail(node, "an input is computed after its use");
    if (node.op.kind !== "source") verifyType(node, fail);
    seen.add(node);
  }
  for (const { node } of graph.outputs)
    if (!seen.has(node)) fail(node, "an output is not among the nodes");
  return graph;
}

function verifyType(node: Node, fail: (node: Node, rule: string) => never): void {
  const inferred = node.op.infer(
    node.inputs.map((input) => input.type),
    node.attrs,
  );
  if (inferred.dtype !== node.type.dtype || !sameShape(inferred.shape, node.shape))
    fail(
      node,
      `expected ${inferred.dtype}${showShape(inferred.shape)}, got ${node.type.dtype}${showShape(node.shape)}`,
    );
}
