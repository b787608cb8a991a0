import { InternalError } from "../base/errors.ts";
import { elements, sameDim, showShape, stridesOf, type Dim, type Shape } from "../ir/dim.ts";
import { Capture, Node, type TensorType } from "../ir/graph.ts";
import type { Evaluation, Op } from "../ir/op.ts";
import { scalar } from "./source.ts";

export type ElementwiseName =
  | "add"
  | "sub"
  | "mul"
  | "div"
  | "maximum"
  | "minimum"
  | "neg"
  | "abs"
  | "square"
  | "sqrt"
  | "rsqrt"
  | "exp"
  | "tanh"
  | "sigmoid"
  | "silu"
  | "relu";

/** The functions of one element. All are evaluated in f64 and rounded to f32 once. */
const functions: Readonly<Record<ElementwiseName, (...values: number[]) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  maximum: (a, b) => Math.max(a, b),
  minimum: (a, b) => Math.min(a, b),
  neg: (a) => -a,
  abs: (a) => Math.abs(a),
  square: (a) => a * a,
  sqrt: (a) => Math.sqrt(a),
  rsqrt: (a) => 1 / Math.sqrt(a),
  exp: (a) => Math.exp(a),
  tanh: (a) => Math.tanh(a),
  sigmoid: (a) => 1 / (1 + Math.exp(-a)),
  silu: (a) => a / (1 + Math.exp(-a)),
  relu: (a) => Math.max(a, 0),
};

/** Numpy's rule: aligned at the last axis, a size of 1 stretches. */
function broadcastShapes(a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  const at = (shape: Shape, axis: number): Dim => shape[axis - rank + shape.length] ?? 1;
  return Array.from({ length: rank }, (_, axis) => {
    const [x, y] = [at(a, axis), at(b, axis)];
    if (x === 1) return y;
    if (y === 1 || sameDim(x, y)) return x;
    throw new InternalError("shape", `cannot broadcast ${showShape(a)} with ${showShape(b)}`);
  });
}

/** Strides of a value inside the broadcast shape: 0 along axes that stretch. */
function broadcastStrides(from: readonly number[], to: readonly number[]): number[] {
  const strides = stridesOf(from);
  const shift = to.length - from.length;
  return to.map((_, axis) =>
    axis < shift || from[axis - shift] === 1 ? 0 : strides[axis - shift],
  );
}

function inferElementwise(name: string, inputs: readonly TensorType[]): TensorType {
  for (const { dtype } of inputs)
    if (dtype !== "f32") throw new InternalError("dtype", `${name}: expected f32, got ${dtype}`);
  return { dtype: "f32", shape: inputs.map((input) => input.shape).reduce(broadcastShapes) };
}

function evaluateElementwise(f: (...values: number[]) => number, call: Evaluation): Float32Array {
  const out = new Float32Array(elements(call.shape));
  const strides = call.inputs.map((input) => broadcastStrides(input.shape, call.shape));
  const outStrides = stridesOf(call.shape);
  const values = call.inputs.map(() => 0);
  for (let at = 0; at < out.length; at++) {
    for (let i = 0; i < values.length; i++) {
      let from = 0;
      for (let axis = 0, rest = at; axis < outStrides.length; axis++) {
        const index = Math.floor(rest / outStrides[axis]);
        rest -= index * outStrides[axis];
        from += index * strides[i][axis];
      }
      values[i] = call.inputs[i].data[from];
    }
    out[at] = f(...values);
  }
  return out;
}

function elementwise(name: ElementwiseName): Op {
  const f = functions[name];
  return {
    name,
    kind: "elementwise",
    infer: (inputs) => inferElementwise(name, inputs),
    evaluate: (call) => evaluateElementwise(f, call),
  };
}

const elementwiseOps: Readonly<Record<ElementwiseName, Op>> = Object.fromEntries(
  (Object.keys(functions) as ElementwiseName[]).map((name) => [name, elementwise(name)]),
) as Record<ElementwiseName, Op>;

export type Value = Node | number | Capture;
const valueOf = (value: Value): Node => (value instanceof Node ? value : scalar(value));
const unary =
  (name: ElementwiseName) =>
  (a: Node): Node =>
    new Node(elementwiseOps[name], [a], {});
const binary =
  (name: ElementwiseName) =>
  (a: Value, b: Value): Node =>
    new Node(elementwiseOps[name], [valueOf(a), valueOf(b)], {});

type Unary = (a: Node) => Node;
type Binary = (a: Value, b: Value) => Node;
export const add: Binary = binary("add");
export const sub: Binary = binary("sub");
export const mul: Binary = binary("mul");
export const div: Binary = binary("div");
export const maximum: Binary = binary("maximum");
export const minimum: Binary = binary("minimum");
export const neg: Unary = unary("neg");
export const abs: Unary = unary("abs");
export const square: Unary = unary("square");
export const sqrt: Unary = unary("sqrt");
export const rsqrt: Unary = unary("rsqrt");
export const exp: Unary = unary("exp");
export const tanh: Unary = unary("tanh");
export const sigmoid: Unary = unary("sigmoid");
export const silu: Unary = unary("silu");
export const relu: Unary = unary("relu");

/** Operations whose two operands may change places. */
export const commutative: ReadonlySet<string> = new Set<ElementwiseName>([
  "add",
  "mul",
  "maximum",
  "minimum",
]);
