import { InternalError } from "../base/errors.ts";
import { elements, sameDim, showShape, stridesOf, type Dim, type Shape } from "../ir/dim.ts";
import { Node, type Capture, type Op } from "../ir/graph.ts";
import { readView } from "./movement.ts";
import { scalar } from "./source.ts";

type BinaryName = "add" | "sub" | "mul" | "div" | "maximum" | "minimum";
type CurveName = "sqrt" | "rsqrt" | "exp" | "tanh" | "sigmoid" | "silu" | "relu";
export type ElementwiseName = BinaryName | "neg" | "abs" | "square" | CurveName;

type Unary = (a: Node) => Node;
type Value = Node | number | Capture;
type Binary = (a: Value, b: Value) => Node;
const valueOf = (value: Value): Node => (value instanceof Node ? value : scalar(value));

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
function elementwise(name: ElementwiseName, f: (a: number, b: number) => number) {
  const op: Op = {
    name,
    kind: "elementwise",
    infer: ({ inputs }) => ({
      dtype: "f32",
      shape: inputs.map(({ shape }) => shape).reduce(broadcastShapes),
    }),
    evaluate: ({ inputs, shape }) => {
      const [a, b = a] = inputs.map(({ data, shape: from }) =>
        readView(data, shape, { strides: broadcastStrides(from, shape) }),
      );
      return new Float32Array(elements(shape)).map((_, at) => f(a[at], b[at]));
    },
  };
  return (...operands: readonly Value[]): Node => new Node(op, operands.map(valueOf));
}

export const add: Binary = elementwise("add", (a, b) => a + b);
export const sub: Binary = elementwise("sub", (a, b) => a - b);
export const mul: Binary = elementwise("mul", (a, b) => a * b);
export const div: Binary = elementwise("div", (a, b) => a / b);
export const maximum: Binary = elementwise("maximum", Math.max);
export const minimum: Binary = elementwise("minimum", Math.min);
export const neg: Unary = elementwise("neg", (a) => -a);
export const abs: Unary = elementwise("abs", Math.abs);
export const square: Unary = elementwise("square", (a) => a * a);
export const sqrt: Unary = elementwise("sqrt", Math.sqrt);
export const rsqrt: Unary = elementwise("rsqrt", (a) => 1 / Math.sqrt(a));
export const exp: Unary = elementwise("exp", Math.exp);
export const tanh: Unary = elementwise("tanh", Math.tanh);
export const sigmoid: Unary = elementwise("sigmoid", (a) => 1 / (1 + Math.exp(-a)));
export const silu: Unary = elementwise("silu", (a) => a / (1 + Math.exp(-a)));
export const relu: Unary = elementwise("relu", (a) => Math.max(a, 0));

/** Operations whose two operands may change places. */
export const commutative: ReadonlySet<string> = new Set(["add", "mul", "maximum", "minimum"]);
