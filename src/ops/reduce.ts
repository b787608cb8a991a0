import { elements } from "../ir/dim.ts";
import { Node, type Op } from "../ir/graph.ts";

/** Folds of the last axis, which stays with size 1. */
export type ReduceName = "sum" | "mean" | "max";
type Step = (a: number, b: number) => number;
type Reduction = (x: Node) => Node;

/** n values: `end` of all of them added to `start` by `step`. */
function reduction(name: ReduceName, start: number, step: Step, end: Step = (a) => a): Reduction {
  const op: Op = {
    name,
    kind: "reduce",
    infer: ({ inputs: [x] }) => ({ dtype: "f32", shape: [...x.shape.slice(0, -1), 1] }),
    evaluate: ({ inputs: [{ data, shape: from }], shape }) => {
      const width = from[from.length - 1];
      return new Float32Array(elements(shape)).map((_, row) => {
        let value = start;
        for (let at = row * width; at < (row + 1) * width; at++) value = step(value, data[at]);
        return end(value, width);
      });
    },
  };
  return (x) => new Node(op, [x]);
}
const plus: Step = (a, b) => a + b;

export const sum: Reduction = reduction("sum", 0, plus);
export const mean: Reduction = reduction("mean", 0, plus, (total, n) => total / n);
export const max: Reduction = reduction("max", -Infinity, Math.max);
