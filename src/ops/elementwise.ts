import { InternalError } from "../base/errors.ts";
import { elements, sameDim, showShape, stridesOf, type Dim, type Shape } from "../ir/dim.ts";
import { Node, type Capture } from "../ir/graph.ts";
import type { Op } from "../ir/op.ts";
import { readView } from "./movement.ts";
import { scalar } from "./source.ts";

type BinaryName = "add" | "sub" | "mul" | "div" | "maximum" | "minimum";
type CurveName = "exp" | "tanh" | "sigmoid" | "silu" | "relu";
type UnaryName = "neg" | "abs" | "square" | "sqrt" | "rsqrt" | CurveName;
export type ElementwiseName = BinaryName | UnaryName;

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
  const strides = stridesOf(from).map((stride, axis) => (from[axis] === 1 ? 0 : stride));
  return [...to.slice(from.length).map(() => 0), ...strides];
}

/** A function of one element of each operand, computed in f64 and rounded to f32 once. */
const elementwise = (name: ElementwiseName, f: (a: number, b: number) => number): Op => ({
  name,
  kind: "elementwise",
  infer: ({ inputs }) => {
    for (const { dtype } of inputs.map(({ type }) => type))
      if (dtype !== "f32") throw new InternalError("dtype", `${name}: expected f32, got ${dtype}`);
    return { dtype: "f32", shape: inputs.map(({ shape }) => shape).reduce(broadcastShapes) };
  },
  evaluate: ({ inputs, shape }) => {
    const [a, b = a] = inputs.map(({ data, shape: from }) =>
      readView(data, shape, { strides: broadcastStrides(from, shape) }),
    );
    return new Float32Array(elements(shape)).map((_, at) => f(a[at], b[at]));
  },
});

type Value = Node | number | Capture;
const valueOf = (value: Value): Node => (value instanceof Node ? value : scalar(value));

type Unary = (a: Node) => Node;
function unary(name: UnaryName, f: (a: number) => number): Unary {
  const op = elementwise(name, f);
  return (a) => new Node(op, [a]);
}
type Binary = (a: Value, b: Value) => Node;
function binary(name: BinaryName, f: (a: number, b: number) => number): Binary {
  const op = elementwise(name, f);
  return (a, b) => new Node(op, [valueOf(a), valueOf(b)]);
}

export const add: Binary = binary("add", (a, b) => a + b);
export const sub: Binary = binary("sub", (a, b) => a - b);
export const mul: Binary = binary("mul", (a, b) => a * b);
export const div: Binary = binary("div", (a, b) => a / b);
export const maximum: Binary = binary("maximum", Math.max);
export const minimum: Binary = binary("minimum", Math.min);
export const neg: Unary = unary("neg", (a) => -a);
export const abs: Unary = unary("abs", Math.abs);
export const square: Unary = unary("square", (a) => a * a);
export const sqrt: Unary = unary("sqrt", Math.sqrt);
export const rsqrt: Unary = unary("rsqrt", (a) => 1 / Math.sqrt(a));
export const exp: Unary = unary("exp", Math.exp);
export const tanh: Unary = unary("tanh", Math.tanh);
export const sigmoid: Unary = unary("sigmoid", (a) => 1 / (1 + Math.exp(-a)));
export const silu: Unary = unary("silu", (a) => a / (1 + Math.exp(-a)));
export const relu: Unary = unary("relu", (a) => Math.max(a, 0));

/** Operations whose two operands may change places. */
export const commutative: ReadonlySet<string> = new Set(["add", "mul", "maximum", "minimum"]);
