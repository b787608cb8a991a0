import { messageOf, InternalError } from "../../base/errors.ts";
import { concrete, elements, type DimBindings } from "../../ir/dim.ts";
import type { Graph, Node } from "../../ir/graph.ts";
import type { CacheView, Concrete, NumericArray } from "../../ir/op.ts";
import { isInput } from "../../ops/index.ts";

/** What a graph is evaluated with. */
export interface Surroundings {
  readonly bindings: DimBindings;
  readonly inputs: Readonly<Record<string, NumericArray>>;
  param(name: string): Float32Array;
  cache(): CacheView;
}

const fail = (problem: string, cause?: unknown): never => {
  throw new InternalError("evaluate", problem, {}, { cause });
};

/** Evaluates every node of a graph by its plain meaning: the definition of correct. Returns the outputs by name. */
export function evaluate(graph: Graph, around: Surroundings): Record<string, NumericArray> {
  const values = new Map<Node, Concrete>();
  for (const node of graph.nodes) {
    if (node.type.dtype === "cache") continue;
    const shape = concrete(node.shape, around.bindings);
    const inputs = node.inputs.flatMap((input) => values.get(input) ?? []);
    const data = isInput(node)
      ? inputOf(node, shape, around)
      : valueOf(node, shape, inputs, around);
    values.set(node, { data, shape });
  }
  return Object.fromEntries(
    graph.outputs.map(({ name, node }) => {
      const { data } = values.get(node) ?? fail(`${node.op.name} has no value`);
      return [name, data];
    }),
  );
}

function inputOf(node: Node, shape: readonly number[], { inputs }: Surroundings): NumericArray {
  const name = node.string("name");
  const data = inputs[name];
  const expected = elements(shape);
  if (data?.length === expected) return data;
  return fail(`input ${name}: expected ${expected} values, got ${data?.length}`);
}

function valueOf(
  node: Node,
  shape: readonly number[],
  inputs: readonly Concrete[],
  around: Surroundings,
): NumericArray {
  try {
    return node.op.evaluate({ ...around, inputs, attrs: node.attrs, shape });
  } catch (error) {
    return fail(`${node.op.name}: ${messageOf(error)}`, error);
  }
}
