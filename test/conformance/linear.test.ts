import { describe, expect, it } from "vitest";
import { symbolic } from "../../src/ir/dim.ts";
import { graphOf, type Graph } from "../../src/ir/graph.ts";
import { add, input, linear, mul, param, type Digits } from "../../src/ops/index.ts";
import { quantPlan } from "../../src/kernels/linear/dot.ts";
import { layouts } from "../../src/quant/compute-layout.ts";
import {
  formatBytes,
  formatNames,
  formats,
  isFloat,
  type FormatName,
} from "../../src/quant/formats.ts";
import { Reference, Wasm, widen, type Model, type Outputs, type WeightData } from "./harness.ts";
import { randomFloats, randomPart, randomWeight } from "./random.ts";
import { machine, targets, type Target } from "./targets.ts";

const most = 33;
const rows = symbolic("rows", 0, most);
const outputSizes = [1, 7, 8, 9, 33, 64];
const columnSizes = (format: FormatName): readonly number[] =>
  ({ 1: [1, 6, 32, 72, 136], 32: [32, 64, 96, 256, 512], 256: [256, 512] })[
    formats[format].block
  ] ?? [];

interface Case {
  readonly name: string;
  readonly columns: number;
  readonly outputs: number;
  readonly residual: boolean;
}
/** Every second output size adds a residual; at the next number of columns the other ones do. */
const casesOf = (format: FormatName): Case[] =>
  columnSizes(format).flatMap((columns, i) =>
    outputSizes.map((outputs, j) => {
      const residual = (i + j) % 2 === 1;
      return {
        name: `${columns} to ${outputs}${residual ? " + residual" : ""}`,
        columns,
        outputs,
        residual,
      };
    }),
  );
/** Targets that differ for a format: how 8 bits are read is nothing to 7-bit quants. */
function targetsOf(format: FormatName, digits: Digits): Target[] {
  const layout = layouts[format];
  if (layout.kind === "float") return [machine];
  const plansOf = ({ features }: Target): string => {
    const plans = (["few", "many"] as const).map((of) => quantPlan(layout, features, digits, of));
    return JSON.stringify([plans, features.revectorize]);
  };
  return [...new Map(targets.map((target) => [plansOf(target), target])).values()];
}

const weightName = ({ columns, outputs }: Case): string => `w${columns}x${outputs}`;

function graphFor(test: Case): Graph {
  const { name, columns, outputs, residual } = test;
  const x = input("x", "f32", [rows, columns]);
  const added = input("residual", "f32", [rows, outputs]);
  const product = linear(x, param(weightName(test), [outputs, columns]));
  // a product that leaves the function as it is would be given two digits
  const output = { name: "y", node: residual ? add(added, product) : mul(product, 1) };
  return graphOf(name, residual ? [x, added] : [x], [output]);
}

/** One compiled model with a function for each case. */
function modelFor(format: FormatName, digits: Digits): Model {
  const cases = casesOf(format);
  const weights = cases.map((test, at) =>
    randomWeight(weightName(test), format, test.outputs, test.columns, at + 1),
  );
  return { graphs: cases.map(graphFor), weights, digits };
}

const values = new Map<number, Float32Array>();
/** `count` rows of so many values: the first of always the same. */
function rowsOf(width: number, count: number): Float32Array {
  const known = values.get(width) ?? randomFloats(most * width, width);
  values.set(width, known);
  return known.subarray(0, count * width);
}
const inputsOf = (
  { columns, outputs, residual }: Case,
  count: number,
): Record<string, Float32Array> => ({
  x: rowsOf(columns, count),
  ...(residual ? { residual: rowsOf(outputs, count) } : {}),
});

const runRows = (run: Pick<Wasm, "run">, test: Case, count: number): Outputs =>
  run.run(test.name, { sizes: { rows: count }, inputs: inputsOf(test, count) });

/** Σ |x| × the largest |weight| of the row: what rounding errors are measured against. */
function magnitudes(test: Case, weight: WeightData): Float32Array {
  const { columns, outputs } = test;
  const { x, residual } = inputsOf(test, most);
  const wide = widen(weight);
  const largest = Array.from({ length: outputs }, (_, to) =>
    wide.subarray(to * columns, (to + 1) * columns).reduce((a, b) => Math.max(a, Math.abs(b)), 0),
  );
  return Float32Array.from({ length: most * outputs }, (_, at) => {
    const row = Math.floor(at / outputs);
    const sum = x.subarray(row * columns, (row + 1) * columns).reduce((a, b) => a + Math.abs(b), 0);
    return sum * largest[at % outputs] + Math.abs(residual?.[at] ?? 0);
  });
}

/** First index at which two arrays differ, or −1. */
const differsAt = (a: Float32Array, b: Float32Array): number =>
  a.length === b.length ? a.findIndex((value, at) => value !== b[at]) : 0;

for (const format of formatNames)
  for (const digits of isFloat(format) ? ([1] as const) : ([1, 2] as const))
    describe(`linear, ${format} weights, ${digits} digit${digits > 1 ? "s" : ""}`, () => {
      const model = modelFor(format, digits);
      const cases = casesOf(format);
      const base = new Wasm(model, machine);
      const whole = new Map(cases.map((test) => [test.name, runRows(base, test, most).y]));
      const wholeOf = (test: Case): Float32Array => whole.get(test.name) ?? new Float32Array();

      it("agrees with its meaning", () => {
        const reference = new Reference(model);
        for (const test of cases) {
          const expected = runRows(reference, test, most).y;
          const weight = model.weights.find(({ name }) => name === weightName(test));
          const limits = magnitudes(test, weight ?? { name: "", parts: [] });
          const got = wholeOf(test);
          const worst = expected.findIndex(
            (value, at) => !(Math.abs(got[at] - value) <= 1e-6 * limits[at]),
          );
          expect(worst, `${test.name}: got ${got[worst]}, not ${expected[worst]}`).toBe(-1);
        }
      });

      for (const target of targetsOf(format, digits))
        it(`has the same bits with ${target.name}, for every number of rows`, () => {
          const wasm = new Wasm(model, target);
          for (const test of cases)
            for (const count of [0, 1, 2, 3, 4, 5, 7, 8, 9, most]) {
              const got = runRows(wasm, test, count).y;
              const at = differsAt(got, wholeOf(test).subarray(0, count * test.outputs));
              expect(at, `${test.name}, ${count} rows`).toBe(-1);
            }
        });

      it("has the same bits on 2, 3 and 5 threads", () => {
        for (const threads of [2, 3, 5]) {
          const wasm = new Wasm(model, machine, threads);
          for (const test of cases)
            for (const count of [1, 3, 9]) {
              const got = runRows(wasm, test, count).y;
              const at = differsAt(got, wholeOf(test).subarray(0, count * test.outputs));
              expect(at, `${test.name}, ${count} rows, ${threads} threads`).toBe(-1);
            }
        }
      });
    });

describe("linear", () => {
  it("holds the largest integers of 32 bits: q6_k of −32 × −128 by 15-bit activations", () => {
    const bytes = new Uint8Array(formatBytes("q6_k", 8 * 256));
    for (let block = 0; block < 8; block++) {
      bytes.fill(0x80, block * 210 + 192, block * 210 + 208); // sub-scales −128; quants 0 are −32
      bytes[block * 210 + 209] = 0x3c; // scale 1
    }
    const test: Case = { name: "largest", columns: 256, outputs: 8, residual: false };
    const part = { format: "q6_k", rows: 8, columns: 256, bytes } as const;
    const weights = [{ name: weightName(test), parts: [part] }];
    const model: Model = { graphs: [graphFor(test)], weights, digits: 2 };
    for (const sign of [1, -1])
      for (const target of targets) {
        for (const rows of [1, 5]) {
          const inputs = { x: new Float32Array(rows * 256).fill(sign) };
          const { y } = new Wasm(model, target).run("largest", { sizes: { rows }, inputs });
          for (const value of y) expect(value / (sign * 256 * 32 * 128)).toBeCloseTo(1, 6);
        }
      }
  });

  it("takes weights whose parts have different formats", () => {
    const test: Case = { name: "mixed", columns: 256, outputs: 37, residual: true };
    const parts = (["q4_0", "q6_k", "q8_0"] as const).map((format, at) =>
      randomPart(format, [16, 13, 8][at], test.columns, at),
    );
    const weights = [{ name: weightName(test), parts }];
    const model: Model = { graphs: [graphFor(test)], weights, digits: 2 };
    const [got, expected] = [new Wasm(model, machine, 2), new Reference(model)].map(
      (run) => runRows(run as Wasm, test, most).y,
    );
    const limits = magnitudes(test, weights[0]);
    for (const [at, value] of expected.entries())
      expect(Math.abs(got[at] - value)).toBeLessThanOrEqual(1e-6 * limits[at]);
  });
});
