import { sameShape } from "../../ir/dim.ts";
import { rewrite, withInputs, type Graph, type Node } from "../../ir/graph.ts";
import { isReshape, reshape } from "../../ops/index.ts";

/** Joins reshapes of reshapes and drops those that change nothing. */
export function simplify(graph: Graph): Graph {
  return rewrite(graph, (node, inputs) => {
    if (!isReshape(node)) return withInputs(node, inputs);
    const from = isReshape(inputs[0]) ? inputs[0].inputs[0] : inputs[0];
    return sameShape(from.shape, node.shape) ? from : reshape(from, node.shape);
  });
}

/** Merges nodes that compute the same thing from the same values. */
export function mergeEqual(graph: Graph): Graph {
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
