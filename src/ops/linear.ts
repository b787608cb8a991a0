import { InternalError } from "../base/errors.ts";
import { elements, sameDim, showShape } from "../ir/dim.ts";
import { Capture, Node } from "../ir/graph.ts";
import type { Op } from "../ir/op.ts";

const linearOp: Op = {
  name: "linear",
  kind: "contract",
  infer: ([x, weight]) => {
    const [outputs, inputs] = weight.shape;
    const last = x.shape.at(-1);
    if (weight.shape.length !== 2 || last === undefined || !sameDim(last, inputs))
      throw new InternalError(
        "shape",
        `linear of ${showShape(x.shape)} by ${showShape(weight.shape)}`,
      );
    return { dtype: "f32", shape: [...x.shape.slice(0, -1), outputs] };
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
export const linear = (x: Node, weight: Node): Node => new Node(linearOp, [x, weight], {});
export const isLinear = (node: Node): boolean => node.op === linearOp;

/** Activations are rounded in groups of this many values, which share one scale. */
export const activationGroup = 32;

/** How precisely the inputs of integer matmuls are rounded: one int8 digit, or two exact ones (hi × 256 + lo, 16 bits). */
export type Digits = 1 | 2;
export const largestDigit: Readonly<Record<Digits, number>> = { 1: 127, 2: 32639 };

/** Groups whose values are all smaller become zeros: L / largest |x| must be finite. */
export const leastRounded: number = 2 ** -100;

/**
 * Rounds one group to whole multiples q = −L … L of a scale as the integer kernels do, in f32 arithmetic: scale = largest |x| / L,
 * q = x × (L / largest |x|) to nearest even, value = q × scale. `out` may be `x`.
 */
export function roundGroup(x: Float32Array, out: Float32Array, levels: number): void {
  let largest = 0;
  for (const value of x) largest = Math.max(largest, Math.abs(value));
  const inverse = largest >= leastRounded ? Math.fround(levels / largest) : 0;
  const scale = Math.fround(largest / levels);
  x.forEach((value, at) => {
    out[at] = roundHalfEven(Math.fround(value * inverse)) * scale;
  });
}

function roundHalfEven(value: number): number {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

const roundOp: Op = {
  name: "round_activations",
  kind: "round",
  infer: ([x]) => x,
  evaluate: ({ inputs: [x], attrs }) => {
    const width = x.shape[x.shape.length - 1];
    const data = x.data as Float32Array;
    const out = new Float32Array(data.length);
    const levels = largestDigit[attrs.digits as Digits];
    for (let row = 0; row < data.length; row += width)
      for (let at = row; at < row + width; at += activationGroup) {
        const end = Math.min(at + activationGroup, row + width);
        roundGroup(data.subarray(at, end), out.subarray(at, end), levels);
      }
    return out;
  },
};

/** The values that integer matmuls see in place of x: see `activationGroup`, `Digits`. */
export const roundActivations = (x: Node, digits: Digits | Capture): Node =>
  new Node(roundOp, [x], { digits });
export const isRound = (node: Node): boolean => node.op === roundOp;
