import { InternalError } from "../base/errors.ts";
import { elements, product, sameDim, showShape, stridesOf } from "../ir/dim.ts";
import type { Dim, Shape } from "../ir/dim.ts";
import { Node, type Attrs, type Capture } from "../ir/graph.ts";
import type { NumericArray, Op, View } from "../ir/graph.ts";

const empty = (like: NumericArray, shape: readonly number[]): NumericArray =>
  like instanceof Int32Array ? new Int32Array(elements(shape)) : new Float32Array(elements(shape));

/** Values of a view of this shape. */
export function readView(
  from: NumericArray,
  shape: readonly number[],
  { strides, offset = 0 }: View<number>,
): NumericArray {
  const out = empty(from, shape);
  const plain = stridesOf(shape);
  if (out.length === from.length && plain.every((stride, axis) => stride === strides[axis]))
    return from;
  for (let at = 0; at < out.length; at++) {
    let source = offset;
    for (let axis = 0, rest = at; axis < shape.length; rest %= plain[axis++])
      source += Math.floor(rest / plain[axis]) * strides[axis];
    out[at] = from[source];
  }
  return out;
}

type ShapeOf = (from: Shape, node: Node) => Shape;
/** The type of the first input in another shape. */
const reshaped =
  (shapeOf: ShapeOf): Op["infer"] =>
  (node) => ({ ...node.inputs[0].type, shape: shapeOf(node.inputs[0].shape, node) });
const wrong = (problem: string): InternalError => new InternalError("shape", problem);

/** Another view of one input. */
const movement = (
  name: string,
  shapeOf: ShapeOf,
  viewOf: <D extends Dim>(from: readonly D[], attrs: Attrs, to: readonly D[]) => View<D>,
): Op => ({
  name,
  kind: "movement",
  infer: reshaped(shapeOf),
  view: ({ inputs: [x], attrs, shape }) => viewOf(x.shape, attrs, shape),
  evaluate: ({ inputs: [x], attrs, shape }) =>
    readView(x.data, shape, viewOf(x.shape, attrs, shape)),
});

const reshapeOp = movement(
  "reshape",
  (from, { attrs }) => {
    const to = attrs.shape as Shape;
    if (sameDim(product(from), product(to))) return to;
    throw wrong(`reshape ${showShape(from)} to ${showShape(to)}: sizes differ`);
  },
  (_, __, to) => ({ strides: stridesOf(to) }),
);
export const reshape = (x: Node, shape: Shape): Node => new Node(reshapeOp, [x], { shape });
export const isReshape = (node: Node): boolean => node.op === reshapeOp;

const permuted = <T>(from: readonly T[], { order }: Attrs): T[] =>
  (order as readonly number[]).map((axis) => from[axis]);
const permuteOp = movement(
  "permute",
  (from, { attrs }) => permuted(from, attrs),
  (from, attrs) => ({ strides: permuted(stridesOf(from), attrs) }),
);
export const permute = (x: Node, order: readonly number[]): Node =>
  new Node(permuteOp, [x], { order });

/** Columns of the last axis; `range` gives the first and the one behind. */
const columns = (name: string, range: (last: number, attrs: Attrs) => [number, number]): Op =>
  movement(
    name,
    (from, { attrs }) => {
      const last = Number(from.at(-1));
      const [start, end] = range(last, attrs);
      const isWhole = Number.isInteger(start) && Number.isInteger(end);
      if (isWhole && start >= 0 && start <= end && end <= last)
        return [...from.slice(0, -1), end - start];
      throw wrong(`${name} of ${showShape(from)}: expected columns of it, got ${start} to ${end}`);
    },
    (from, attrs) => ({ strides: stridesOf(from), offset: range(Number(from.at(-1)), attrs)[0] }),
  );

const chunkOp = columns("chunk", (last, { parts, index }) => {
  const size = last / Number(parts);
  return [size * Number(index), size * (Number(index) + 1)];
});
/** Part `index` of `parts` equal parts of the last axis. */
export const chunk = (x: Node, parts: number, index: number): Node =>
  new Node(chunkOp, [x], { parts, index });

const sliceOp = columns("slice", (_, { start, end }) => [Number(start), Number(end)]);
/** Columns start … end of the last axis. */
export const slice = (x: Node, start: number | Capture, end: number | Capture): Node =>
  new Node(sliceOp, [x], { start, end });
export const isColumns = ({ op }: Node): boolean => op === chunkOp || op === sliceOp;

const concatOp: Op = {
  name: "concat",
  kind: "gather",
  infer: reshaped((from, { inputs }) => {
    const last = inputs.reduce((sum, { shape }) => sum + Number(shape.at(-1)), 0);
    return [...from.slice(0, -1), last];
  }),
  evaluate: ({ inputs, shape }) => {
    const out = empty(inputs[0].data, shape);
    const width = shape[shape.length - 1];
    let start = 0;
    for (const { data, shape: from } of inputs) {
      const own = from[from.length - 1];
      for (let at = 0; at < data.length; at++)
        out[Math.floor(at / own) * width + start + (at % own)] = data[at];
      start += own;
    }
    return out;
  },
};
/** Joins along the last axis. */
export const concat = (parts: readonly Node[]): Node => new Node(concatOp, parts);

const takeOp: Op = {
  name: "take",
  kind: "gather",
  infer: reshaped((from, { inputs: [, rows] }) => {
    if (rows.type.dtype === "i32") return [...rows.shape, ...from.slice(1)];
    throw new InternalError("dtype", `take: expected i32 for rows, got ${rows.type.dtype}`);
  }),
  evaluate: ({ inputs: [table, rows], shape }) => {
    const out = empty(table.data, shape);
    const width = elements(table.shape.slice(1));
    rows.data.forEach((row, at) =>
      out.set(table.data.subarray(row * width, (row + 1) * width), at * width),
    );
    return out;
  },
};
/** Rows of a table [n, …] by index [m] (i32) → [m, …]. */
export const take = (table: Node, rows: Node): Node => new Node(takeOp, [table, rows]);

const lastRowOp: Op = {
  name: "last_row",
  kind: "gather",
  infer: reshaped((from) => [1, ...from.slice(1)]),
  evaluate: ({ inputs: [x], shape }) => x.data.slice(x.data.length - elements(shape)),
};
/** The last row of [rows, …] → [1, …]. */
export const lastRow = (x: Node): Node => new Node(lastRowOp, [x]);
export const isTake = ({ op }: Node): boolean => op === takeOp || op === lastRowOp;
