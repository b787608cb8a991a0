import { concrete, elements } from "../../ir/dim.ts";
import { messageOf, InternalError } from "../../base/errors.ts";
import type { Graph, Node } from "../../ir/graph.ts";
import type { CacheView, Concrete, NumericArray } from "../../ir/op.ts";
import type { DimBindings } from "../../ir/dim.ts";
import { isInput } from "../../ops/index.ts";

/** What a graph is evaluated with. */
export interface Surroundings {
  readonly bindings: DimBindings;
  readonly inputs: Readonly<Record<string, NumericArray>>;
  param(name: string): Float32Array;
  cache(): CacheView;
}

/** Evaluates every node of a graph by its plain meaning: the definition of correct. Returns the outputs by name. */
export function evaluate(graph: Graph, around: Surroundings): Record<string, NumericArray> {
  const values = new Map<Node, Concrete>();
  for (const node of graph.nodes) {
    if (node.type.dtype === "cache") continue;
    const shape = concrete(node.shape, around.bindings);
    values.set(node, { data: valueOf(node, shape, values, around), shape });
  }
  return Object.fromEntries(
    graph.outputs.map(({ name, node }) => [name, dataOf(values, node)] as const),
  );
}

const dataOf = (values: ReadonlyMap<Node, Concrete>, node: Node): NumericArray => {
  const value = values.get(node);
  if (value === undefined) throw new InternalError("evaluate", `${node.op.name} has no value`);
  return value.data;
};

function valueOf(
  node: Node,
  shape: readonly number[],
  values: ReadonlyMap<Node, Concrete>,
  around: Surroundings,
): NumericArray {
  if (isInput(node)) {
    const name = node.string("name");
    const data = around.inputs[name];
    if (data?.length !== elements(shape))
      throw new InternalError(
        "evaluate",
        `input ${name}: expected ${elements(shape)} values, got ${data?.length}`,
      );
    return data;
  }
  const inputs = node.inputs.flatMap((input) => values.get(input) ?? []);
  try {
    return node.op.evaluate({ ...around, inputs, attrs: node.attrs, shape });
  } catch (error) {
    throw new InternalError(
      "evaluate",
      `${node.op.name}: ${messageOf(error)}`,
      {},
      { cause: error },
    );
  }
}
