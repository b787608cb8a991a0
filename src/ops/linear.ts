import { InternalError } from "../base/errors.ts";
import { elements, sameDim, showShape } from "../ir/dim.ts";
import { Node, type Capture, type Op } from "../ir/graph.ts";

const linearOp: Op = {
  name: "linear",
  kind: "contract",
  infer: ({ inputs: [{ shape: x }, { shape: weight }] }) => {
    if (x.length > 0 && weight.length === 2 && sameDim(x[x.length - 1], weight[1]))
      return { dtype: "f32", shape: [...x.slice(0, -1), weight[0]] };
    throw new InternalError("shape", `linear of ${showShape(x)} by ${showShape(weight)}`);
  },
  evaluate: ({ inputs: [x, weight], shape }) => {
    const [outputs, inputs] = weight.shape;
    const out = new Float32Array(elements(shape));
    for (let row = 0; row * inputs < x.data.length; row++)
      for (let to = 0; to < outputs; to++) {
        let dot = 0;
        for (let from = 0; from < inputs; from++)
          dot += x.data[row * inputs + from] * weight.data[to * inputs + from];
        out[row * outputs + to] = dot;
      }
    return out;
  },
};

/** x [rows, in] by weight [out, in] → [rows, out]. */
export const linear = (x: Node, weight: Node): Node => new Node(linearOp, [x, weight]);
export const isLinear = (node: Node): boolean => node.op === linearOp;

/** Activations are rounded in groups of this many values, which share one scale. */
export const activationGroup = 32;

/** How precisely the inputs of integer matmuls are rounded: one int8 digit, or two exact ones (hi × 256 + lo, 16 bits). */
export type Digits = 1 | 2;
export const largestDigit: Readonly<Record<Digits, number>> = { 1: 127, 2: 32639 };

/** Groups whose values are all smaller become zeros: L / largest |x| must be finite. */
export const leastRounded: number = 2 ** -100;

/**
 * Rounds groups of `size` values of a row to whole multiples q = −L … L of a scale as the integer kernels do, in f32 arithmetic:
 * scale = largest |x| / L, q = x × (L / largest |x|) to nearest even, value = q × scale.
 */
export function roundGroups(row: Float32Array, size: number, levels: number): Float32Array {
  const out = new Float32Array(row.length);
  for (let start = 0; start < row.length; start += size) {
    const group = row.subarray(start, start + size);
    const largest = group.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const inverse = largest >= leastRounded ? Math.fround(levels / largest) : 0;
    const scale = Math.fround(largest / levels);
    group.forEach((value, at) => {
      out[start + at] = roundHalfEven(Math.fround(value * inverse)) * scale;
    });
  }
  return out;
}

function roundHalfEven(value: number): number {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

const roundOp: Op = {
  name: "round_activations",
  kind: "round",
  infer: ({ inputs: [x] }) => x.type,
  evaluate: ({ inputs: [{ data, shape }], attrs }) => {
    const levels = largestDigit[attrs.digits as Digits];
    const out = Float32Array.from(data);
    for (let at = 0, width = shape[shape.length - 1]; at < out.length; at += width)
      out.set(roundGroups(out.subarray(at, at + width), activationGroup, levels), at);
    return out;
  },
};

/** The values that integer matmuls see in place of x: see `activationGroup`, `Digits`. */
export const roundActivations = (x: Node, digits: Digits | Capture): Node =>
  new Node(roundOp, [x], { digits });
export const isRound = (node: Node): boolean => node.op === roundOp;
