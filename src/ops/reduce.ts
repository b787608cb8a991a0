import { elements } from "../ir/dim.ts";
import { Node } from "../ir/graph.ts";
import type { Op } from "../ir/op.ts";

/** Folds of the last axis, which stays with size 1. `start`, `step` and `end` define the result for n values. */
export type ReduceName = "sum" | "mean" | "max";
interface Fold {
  readonly start: number;
  step(a: number, b: number): number;
  end(total: number, count: number): number;
}
const folds: Readonly<Record<ReduceName, Fold>> = {
  sum: { start: 0, step: (a, b) => a + b, end: (a) => a },
  mean: { start: 0, step: (a, b) => a + b, end: (a, n) => a / n },
  max: { start: -Infinity, step: (a, b) => Math.max(a, b), end: (a) => a },
};

const reduction = (name: ReduceName): Op => ({
  name,
  kind: "reduce",
  infer: ([input]) => ({ dtype: "f32", shape: [...input.shape.slice(0, -1), 1] }),
  evaluate: ({ inputs: [{ data, shape }] }) => {
    const { start, step, end } = folds[name];
    const width = shape[shape.length - 1];
    const out = new Float32Array(elements(shape.slice(0, -1)));
    for (let row = 0; row < out.length; row++) {
      let value: number = start;
      for (let at = row * width; at < (row + 1) * width; at++) value = step(value, data[at]);
      out[row] = end(value, width);
    }
    return out;
  },
});

const reduceOps: Readonly<Record<ReduceName, Op>> = {
  sum: reduction("sum"),
  mean: reduction("mean"),
  max: reduction("max"),
};
export const sum = (x: Node): Node => new Node(reduceOps.sum, [x], {});
export const mean = (x: Node): Node => new Node(reduceOps.mean, [x], {});
export const max = (x: Node): Node => new Node(reduceOps.max, [x], {});
