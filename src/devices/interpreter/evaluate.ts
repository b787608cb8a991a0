import { found, InternalError, messageOf } from "../../base/errors.ts";
import { concrete, type DimBindings } from "../../ir/dim.ts";
import type { Graph, Node } from "../../ir/graph.ts";
import type { Concrete, Evaluation, NumericArray } from "../../ir/graph.ts";

/** What a graph is evaluated with. */
export interface Surroundings extends Pick<Evaluation, "input" | "param" | "cache"> {
  readonly sizes: DimBindings;
}

/** Evaluates every node of a graph by its plain meaning: the definition of correct. Returns the outputs by name. */
export function evaluate(graph: Graph, around: Surroundings): Record<string, NumericArray> {
  const values = new Map<Node, Concrete>();
  for (const node of graph.nodes) {
    if (node.type.dtype === "cache") continue;
    const shape = concrete(node.shape, around.sizes);
    const inputs = node.inputs.flatMap((input) => values.get(input) ?? []);
    try {
      const data = node.op.evaluate({ ...around, inputs, attrs: node.attrs, shape });
      values.set(node, { data, shape });
    } catch (cause) {
      throw new InternalError("evaluate", `${node.op.name}: ${messageOf(cause)}`, {}, { cause });
    }
  }
  const dataOf = (node: Node): NumericArray =>
    found(values.get(node), "evaluate", `${node.op.name} has no value`).data;
  return Object.fromEntries(graph.outputs.map(({ name, node }) => [name, dataOf(node)]));
}
