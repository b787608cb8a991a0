import { InternalError } from "../base/errors.ts";
import {
  elements,
  product,
  sameDim,
  showShape,
  stridesOf,
  type Dim,
  type Shape,
} from "../ir/dim.ts";
import { Capture, Node, type Attrs, type TensorType } from "../ir/graph.ts";
import type { Evaluation, NumericArray, Op } from "../ir/op.ts";

const dimsOf = (attrs: Attrs, name: string): readonly Dim[] => {
  const value = attrs[name];
  if (!Array.isArray(value)) throw new InternalError("attr", `${name}: expected a list`);
  return value;
};
const numberOf = (attrs: Attrs, name: string): number => {
  const value = attrs[name];
  if (typeof value !== "number") throw new InternalError("attr", `${name}: expected a number`);
  return value;
};
const empty = (like: NumericArray, length: number): NumericArray =>
  like instanceof Int32Array ? new Int32Array(length) : new Float32Array(length);

/** Where element `index` of the output is found: offset + Σ index[axis] × strides[axis], in elements of the input. */
interface View {
  readonly offset: number;
  readonly strides: readonly number[];
}

/** Copies through an affine view: the definition of every movement of one input. */
function evaluateView(view: View, { inputs, shape }: Evaluation): NumericArray {
  const from = inputs[0].data;
  const out = empty(from, elements(shape));
  const strides = stridesOf(shape);
  for (let at = 0; at < out.length; at++) {
    let source = view.offset;
    for (let axis = 0, rest = at; axis < shape.length; axis++) {
      const index = Math.floor(rest / strides[axis]);
      rest -= index * strides[axis];
      source += index * view.strides[axis];
    }
    out[at] = from[source];
  }
  return out;
}

function movement(
  name: string,
  infer: (input: TensorType, attrs: Attrs) => Shape,
  view: (from: readonly number[], to: readonly number[], attrs: Attrs) => View,
): Op {
  return {
    name,
    kind: "movement",
    infer: ([input], attrs) => ({ dtype: input.dtype, shape: infer(input, attrs) }),
    evaluate: (call) => evaluateView(view(call.inputs[0].shape, call.shape, call.attrs), call),
  };
}

const reshapeOp = movement(
  "reshape",
  (input, attrs) => {
    const to = dimsOf(attrs, "shape");
    if (!sameDim(product(input.shape), product(to)))
      throw new InternalError(
        "shape",
        `reshape ${showShape(input.shape)} to ${showShape(to)}: sizes differ`,
      );
    return to;
  },
  (_, to) => ({ offset: 0, strides: stridesOf(to) }),
);

const permuteOp = movement(
  "permute",
  (input, attrs) => dimsOf(attrs, "order").map((axis) => input.shape[Number(axis)]),
  (from, _, attrs) => {
    const strides = stridesOf(from);
    return { offset: 0, strides: dimsOf(attrs, "order").map((axis) => strides[Number(axis)]) };
  },
);

const chunkOp = movement(
  "chunk",
  (input, attrs) => {
    const last = input.shape.at(-1);
    const parts = numberOf(attrs, "parts");
    if (typeof last !== "number" || last % parts !== 0)
      throw new InternalError("shape", `chunk ${showShape(input.shape)} into ${parts} parts`);
    return [...input.shape.slice(0, -1), last / parts];
  },
  (from, to, attrs) => ({
    offset: numberOf(attrs, "index") * to[to.length - 1],
    strides: stridesOf(from),
  }),
);

const sliceOp = movement(
  "slice",
  (input, attrs) => {
    const [start, end] = [numberOf(attrs, "start"), numberOf(attrs, "end")];
    const last = input.shape.at(-1);
    if (typeof last !== "number" || start < 0 || end > last || start > end)
      throw new InternalError("shape", `slice ${start} to ${end} of ${showShape(input.shape)}`);
    return [...input.shape.slice(0, -1), end - start];
  },
  (from, _, attrs) => ({ offset: numberOf(attrs, "start"), strides: stridesOf(from) }),
);

const concatOp: Op = {
  name: "concat",
  kind: "gather",
  infer: (inputs) => {
    const last = inputs.reduce((sum, { shape }) => sum + Number(shape.at(-1)), 0);
    return { dtype: inputs[0].dtype, shape: [...inputs[0].shape.slice(0, -1), last] };
  },
  evaluate: ({ inputs, shape }) => {
    const out = empty(inputs[0].data, elements(shape));
    const width = shape[shape.length - 1];
    let at = 0;
    for (const { data, shape: from } of inputs) {
      const columns = from[from.length - 1];
      for (let row = 0; row * columns < data.length; row++)
        out.set(data.subarray(row * columns, (row + 1) * columns), row * width + at);
      at += columns;
    }
    return out;
  },
};

const takeOp: Op = {
  name: "take",
  kind: "gather",
  infer: ([table, rows]) => ({
    dtype: table.dtype,
    shape: [...rows.shape, ...table.shape.slice(1)],
  }),
  evaluate: ({ inputs: [table, rows], shape }) => {
    const out = empty(table.data, elements(shape));
    const width = elements(table.shape.slice(1));
    rows.data.forEach((row, at) =>
      out.set(table.data.subarray(row * width, (row + 1) * width), at * width),
    );
    return out;
  },
};

const lastRowOp: Op = {
  name: "last_row",
  kind: "gather",
  infer: ([x]) => ({ dtype: x.dtype, shape: [1, ...x.shape.slice(1)] }),
  evaluate: ({ inputs: [x], shape }) => x.data.slice(x.data.length - elements(shape)),
};

export const reshape = (x: Node, shape: Shape): Node => new Node(reshapeOp, [x], { shape });
export const permute = (x: Node, order: readonly number[]): Node =>
  new Node(permuteOp, [x], { order });
/** Part `index` of `parts` equal parts of the last axis. */
export const chunk = (x: Node, parts: number, index: number): Node =>
  new Node(chunkOp, [x], { parts, index });
/** Columns start … end of the last axis. */
export const slice = (x: Node, start: number | Capture, end: number | Capture): Node =>
  new Node(sliceOp, [x], { start, end });
/** Joins along the last axis. */
export const concat = (parts: readonly Node[]): Node => new Node(concatOp, parts, {});
/** Rows of a table [n, …] by index [m] (i32) → [m, …]. */
export const take = (table: Node, rows: Node): Node => new Node(takeOp, [table, rows], {});

/** The last row of [rows, …] → [1, …]. */
export const lastRow = (x: Node): Node => new Node(lastRowOp, [x], {});

export const isReshape = (node: Node): boolean => node.op === reshapeOp;
