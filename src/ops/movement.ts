import { InternalError } from "../base/errors.ts";
import { elements, product, sameDim, showShape, stridesOf, type Shape } from "../ir/dim.ts";
import { Node, type Attrs, type Capture } from "../ir/graph.ts";
import type { NumericArray, Op } from "../ir/op.ts";

const empty = (like: NumericArray, shape: readonly number[]): NumericArray =>
  like instanceof Int32Array ? new Int32Array(elements(shape)) : new Float32Array(elements(shape));

/** Where values are found: element `index` of `shape` is at offset + Σ index[axis] × strides[axis]. */
interface View {
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly offset?: number;
}
export function readView(from: NumericArray, { shape, strides, offset = 0 }: View): NumericArray {
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

/** An operation whose values are those of its first input, or of all of them, at other places. */
const moving = (
  name: string,
  kind: "movement" | "gather",
  shapeOf: (from: Shape, node: Node) => Shape,
  evaluate: Op["evaluate"],
): Op => ({
  name,
  kind,
  infer: (node) => {
    const { dtype, shape } = node.inputs[0].type;
    return { dtype, shape: shapeOf(shape, node) };
  },
  evaluate,
});
const wrong = (problem: string): InternalError => new InternalError("shape", problem);

const reshapeOp = moving(
  "reshape",
  "movement",
  (from, node) => {
    const to = node.dims("shape");
    if (sameDim(product(from), product(to))) return to;
    throw wrong(`reshape ${showShape(from)} to ${showShape(to)}: sizes differ`);
  },
  ({ inputs: [x] }) => x.data,
);
export const reshape = (x: Node, shape: Shape): Node => new Node(reshapeOp, [x], { shape });
export const isReshape = (node: Node): boolean => node.op === reshapeOp;

const permuteOp = moving(
  "permute",
  "movement",
  (from, node) => node.dims("order").map((axis) => from[Number(axis)]),
  ({ inputs: [x], attrs, shape }) => {
    const strides = stridesOf(x.shape);
    const order = attrs.order as readonly number[];
    return readView(x.data, { shape, strides: order.map((axis) => strides[axis]) });
  },
);
export const permute = (x: Node, order: readonly number[]): Node =>
  new Node(permuteOp, [x], { order });

/** Columns of the last axis; `range` gives the first and the one behind. */
const columnsOp = (name: string, range: (last: number, attrs: Attrs) => [number, number]): Op =>
  moving(
    name,
    "movement",
    (from, { attrs }) => {
      const last = Number(from.at(-1));
      const [start, end] = range(last, attrs);
      if (Number.isInteger(start) && start >= 0 && start <= end && end <= last)
        return [...from.slice(0, -1), end - start];
      throw wrong(`${name} of ${showShape(from)}: expected columns of it, got ${start} to ${end}`);
    },
    ({ inputs: [x], attrs, shape }) => {
      const [offset] = range(Number(x.shape.at(-1)), attrs);
      return readView(x.data, { shape, strides: stridesOf(x.shape), offset });
    },
  );

const chunkOp = columnsOp("chunk", (last, { parts, index }) => {
  const size = last / Number(parts);
  return [size * Number(index), size * (Number(index) + 1)];
});
/** Part `index` of `parts` equal parts of the last axis. */
export const chunk = (x: Node, parts: number, index: number): Node =>
  new Node(chunkOp, [x], { parts, index });

const sliceOp = columnsOp("slice", (_, { start, end }) => [Number(start), Number(end)]);
/** Columns start … end of the last axis. */
export const slice = (x: Node, start: number | Capture, end: number | Capture): Node =>
  new Node(sliceOp, [x], { start, end });

const concatOp = moving(
  "concat",
  "gather",
  (from, { inputs }) => {
    const last = inputs.reduce((sum, { shape }) => sum + Number(shape.at(-1)), 0);
    return [...from.slice(0, -1), last];
  },
  ({ inputs, shape }) => {
    const out = empty(inputs[0].data, shape);
    let start = 0;
    for (const { data, shape: from } of inputs) {
      const columns = from[from.length - 1];
      for (let row = 0; row * columns < data.length; row++) {
        const values = data.subarray(row * columns, (row + 1) * columns);
        out.set(values, row * shape[shape.length - 1] + start);
      }
      start += columns;
    }
    return out;
  },
);
/** Joins along the last axis. */
export const concat = (parts: readonly Node[]): Node => new Node(concatOp, parts);

const takeOp = moving(
  "take",
  "gather",
  (from, { inputs: [, rows] }) => [...rows.shape, ...from.slice(1)],
  ({ inputs: [table, rows], shape }) => {
    const out = empty(table.data, shape);
    const width = elements(table.shape.slice(1));
    rows.data.forEach((row, at) =>
      out.set(table.data.subarray(row * width, (row + 1) * width), at * width),
    );
    return out;
  },
);
/** Rows of a table [n, …] by index [m] (i32) → [m, …]. */
export const take = (table: Node, rows: Node): Node => new Node(takeOp, [table, rows]);

const lastRowOp = moving(
  "last_row",
  "gather",
  (from) => [1, ...from.slice(1)],
  ({ inputs: [x], shape }) => x.data.slice(x.data.length - elements(shape)),
);
/** The last row of [rows, …] → [1, …]. */
export const lastRow = (x: Node): Node => new Node(lastRowOp, [x]);
