import { InternalError } from "../base/errors.ts";
import { elements, type Shape } from "../ir/dim.ts";
import { Node, type Capture, type DType, type Op } from "../ir/graph.ts";

const given = (): never => {
  throw new InternalError("source-value", "its value is given, not evaluated");
};
const source = (name: string, evaluate: Op["evaluate"] = given): Op => ({
  name,
  kind: "source",
  infer: ({ attrs }) => {
    throw new InternalError("source-type", `${name}(${String(attrs.name)}) has no inferred type`);
  },
  evaluate,
});

const inputOp = source("input", ({ attrs, shape, input }) => {
  const name = String(attrs.name);
  const [data, expected] = [input(name), elements(shape)];
  if (data?.length === expected) return data;
  throw new InternalError("input", `${name}: expected ${expected} values, got ${data?.length}`);
});
const paramOp = source("param", ({ attrs, param }) => param(String(attrs.name)));
const scalarOp = source("scalar", ({ attrs }) => Float32Array.of(Number(attrs.value)));
const placeholderOp = source("placeholder");

/** An argument of the function. */
export const input = (name: string, dtype: DType, shape: Shape): Node =>
  new Node(inputOp, [], { name }, { dtype, shape });

/** A weight of the model by its full name; f32 in the mathematics, whatever its format in the file. */
export const param = (name: string, shape: Shape): Node =>
  new Node(paramOp, [], { name }, { dtype: "f32", shape });

/** A constant of shape []. */
export const scalar = (value: number | Capture): Node =>
  new Node(scalarOp, [], { value }, { dtype: "f32", shape: [] });

/** In a pattern: any value. */
export const placeholder = (name: string): Node => new Node(placeholderOp, [], { name });

export const isParam = (node: Node): boolean => node.op === paramOp;
export const isScalar = (node: Node): boolean => node.op === scalarOp;
export const isPlaceholder = (node: Node): boolean => node.op === placeholderOp;
