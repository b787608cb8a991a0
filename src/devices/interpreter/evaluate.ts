import { found, InternalError, messageOf } from "../../base/errors.ts";
import { concrete, elements } from "../../ir/dim.ts";
import type { Graph, Node } from "../../ir/graph.ts";
import type { Concrete, Evaluation, NumericArray } from "../../ir/op.ts";
import { isInput } from "../../ops/index.ts";

/** What a graph is evaluated with. */
export interface Surroundings extends Pick<Evaluation, "bindings" | "param" | "cache"> {
  readonly inputs: Readonly<Record<string, NumericArray>>;
}

/** Evaluates every node of a graph by its plain meaning: the definition of correct. Returns the outputs by name. */
export function evaluate(graph: Graph, around: Surroundings): Record<string, NumericArray> {
  const values = new Map<Node, Concrete>();
  for (const node of graph.nodes) {
    if (node.type.dtype === "cache") continue;
    const shape = concrete(node.shape, around.bindings);
    const inputs = node.inputs.flatMap((input) => values.get(input) ?? []);
    const call = { ...around, inputs, attrs: node.attrs, shape };
    try {
      const data = isInput(node) ? inputOf(node, shape, around) : node.op.evaluate(call);
      values.set(node, { data, shape });
    } catch (cause) {
      throw new InternalError("evaluate", `${node.op.name}: ${messageOf(cause)}`, {}, { cause });
    }
  }
  const dataOf = (node: Node): NumericArray =>
    found(values.get(node), "evaluate", `${node.op.name} has no value`).data;
  return Object.fromEntries(graph.outputs.map(({ name, node }) => [name, dataOf(node)]));
}

function inputOf(node: Node, shape: readonly number[], { inputs }: Surroundings): NumericArray {
  const name = node.string("name");
  const data = inputs[name];
  const expected = elements(shape);
  if (data?.length === expected) return data;
  throw new Error(`${name}: expected ${expected} values, got ${data?.length}`);
}
