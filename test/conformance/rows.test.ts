import { describe, expect, it } from "vitest";
import { symbolic } from "../../src/ir/dim.ts";
import { graphOf, type Graph, type Node } from "../../src/ir/graph.ts";
import * as ops from "../../src/ops/index.ts";
import { formatNames, formats, isFloat, type FormatName } from "../../src/quant/formats.ts";
import { Reference, Wasm, widen, type Model, type RunInput } from "./harness.ts";
import { randomFloats, randomPart, randomWeight, vector } from "./random.ts";
import { machine } from "./targets.ts";

const most = 9;
const rows = symbolic("rows", 0, most);
const { input, param, add, mul, mean, square, rsqrt, silu, chunk, linear } = ops;

const rmsNorm = (x: Node, weight: Node): Node =>
  mul(mul(x, rsqrt(add(mean(square(x)), 1e-5))), weight);
const siluMul = (x: Node): Node => mul(silu(chunk(x, 2, 0)), chunk(x, 2, 1));

/** Runs a model on the interpreter and on wasm, on 1 and 3 threads, whose bits must be the same. */
function compare(model: Model, run: RunInput, tolerance: (expected: number) => number): void {
  const [reference, one, three] = [
    new Reference(model),
    new Wasm(model, machine),
    new Wasm(model, machine, 3),
  ];
  for (const { name, outputs } of model.graphs) {
    const expected = reference.run(name, run);
    const got = one.run(name, run);
    expect(three.run(name, run)).toEqual(got);
    for (const { name: output } of outputs) {
      expect(got[output].length, `${name}, ${output}`).toBe(expected[output].length);
      const worst = got[output].findIndex(
        (value, at) => !(Math.abs(value - expected[output][at]) <= tolerance(expected[output][at])),
      );
      expect(
        worst,
        `${name}, ${output}: got ${got[output][worst]}, not ${expected[output][worst]}`,
      ).toBe(-1);
    }
  }
}
const ulps = (expected: number): number => 1e-6 * Math.max(1, Math.abs(expected));

describe("rms-norm", () => {
  for (const columns of [1, 3, 4, 30, 64, 72, 576])
    it(`agrees with its meaning on ${columns} columns`, () => {
      const x = input("x", "f32", [rows, columns]);
      const graph = graphOf(
        "norm",
        [x],
        [{ name: "y", node: rmsNorm(x, param("weight", [columns])) }],
      );
      const model: Model = {
        graphs: [graph],
        weights: [vector("weight", randomFloats(columns, 3))],
      };
      for (const count of [0, 1, 5, most])
        compare(
          model,
          { sizes: { rows: count }, inputs: { x: randomFloats(count * columns, 1) } },
          (value) => 10 * ulps(value),
        );
    });
});

describe("silu-mul", () => {
  for (const columns of [1, 2, 4, 31, 136, 256])
    it(`agrees with its meaning on 2 × ${columns} columns`, () => {
      const x = input("x", "f32", [rows, 2 * columns]);
      const graph = graphOf("gate", [x], [{ name: "y", node: siluMul(x) }]);
      for (const count of [0, 1, most]) {
        const run = { sizes: { rows: count }, inputs: { x: randomFloats(count * 2 * columns, 1) } };
        compare({ graphs: [graph], weights: [] }, run, (value) => 10 * ulps(value));
      }
    });
});

/** An integer matmul by the unit matrix shows what the rounded values are: scale × digit, exactly. */
describe("rounding of activations", () => {
  const unit = (columns: number) => {
    const bytes = new Uint8Array((columns * columns * 34) / 32);
    for (let row = 0; row < columns; row++) {
      for (let block = 0; block < columns / 32; block++) {
        const at = (row * (columns / 32) + block) * 34;
        bytes[at + 1] = 0x3c; // 1.0
      }
      bytes[(row * (columns / 32) + (row >> 5)) * 34 + 2 + (row & 31)] = 1;
    }
    return { name: "unit", parts: [{ format: "q8_0", rows: columns, columns, bytes }] } as const;
  };
  // a product that leaves the function as it is would be given two digits
  const timesUnit = (x: Node, columns: number) => [
    { name: "y", node: mul(linear(x, param("unit", [columns, columns])), 1) },
  ];
  const sources: Readonly<Record<string, (columns: number) => Graph>> = {
    copy: (columns) => {
      const x = input("x", "f32", [rows, columns]);
      return graphOf("f", [x], timesUnit(x, columns));
    },
    "rms-norm": (columns) => {
      const x = input("x", "f32", [rows, columns]);
      return graphOf("f", [x], timesUnit(rmsNorm(x, param("weight", [columns])), columns));
    },
    "silu-mul": (columns) => {
      const x = input("x", "f32", [rows, 2 * columns]);
      return graphOf("f", [x], timesUnit(siluMul(x), columns));
    },
  };
  for (const [name, graphFor] of Object.entries(sources))
    for (const digits of [1, 2] as const)
      for (const columns of [32, 96])
        it(`of ${name} gives its meaning in ${digits} digit${digits > 1 ? "s" : ""}, ${columns} columns`, () => {
          const graph = graphFor(columns);
          const weights = [unit(columns), vector("weight", randomFloats(columns, 3))];
          const x = randomFloats(most * Number(graph.inputs[0].shape[1]), 5);
          x.fill(0, 0, 32);
          // where a source is computed in another order than its meaning, a value in the middle may go the other way
          const step = name === "copy" ? 0 : 1 / ops.largestDigit[digits];
          const largest = name === "silu-mul" ? 100 : 40;
          compare(
            { graphs: [graph], weights, digits },
            { sizes: { rows: most }, inputs: { x } },
            () => step * largest,
          );
        });

  it("rounds halves to even and keeps the largest exact", () => {
    const graph = sources.copy(32);
    const x = new Float32Array(32);
    x.set([127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, -127, 126.5, 3.49999]);
    const run = { sizes: { rows: 1 }, inputs: { x } };
    const { y } = new Wasm({ graphs: [graph], weights: [unit(32)] }, machine).run("f", run);
    expect([...y.subarray(0, 10)].map((value) => value + 0)).toEqual([
      127, 0, 2, 2, 0, -2, -2, -127, 126, 3,
    ]);
  });
});

describe("rounding of next to nothing", () => {
  it("gives zeros, not infinities", () => {
    const x = input("x", "f32", [rows, 32]);
    const y = linear(x, param("w", [4, 32]));
    const model: Model = {
      graphs: [graphOf("f", [x], [{ name: "y", node: y }])],
      weights: [randomWeight("w", "q8_0", 4, 32, 1)],
      digits: 2,
    };
    for (const size of [1e-45, 1e-40, 1e-36, 1e-31])
      compare(
        model,
        { sizes: { rows: 1 }, inputs: { x: new Float32Array(32).fill(size) } },
        () => 0,
      );
  });
});

describe("embed", () => {
  const columnsOf = (format: FormatName): number[] =>
    formats[format].block === 256 ? [256, 512] : isFloat(format) ? [1, 6, 72] : [32, 96];
  for (const format of formatNames)
    it(`gives rows of ${format} tables exactly`, () => {
      for (const columns of columnsOf(format)) {
        const ids = input("ids", "i32", [rows]);
        const table = randomWeight("table", format, 21, columns, columns);
        const graph = graphOf(
          "embed",
          [ids],
          [{ name: "y", node: ops.take(param("table", [21, columns]), ids) }],
        );
        const picked = Int32Array.of(0, 20, 7, 8, 15, 16, 7, 1, 9);
        const wide = widen(table);
        for (const threads of [1, 2]) {
          const { y } = new Wasm({ graphs: [graph], weights: [table] }, machine, threads).run(
            "embed",
            { sizes: { rows: 9 }, inputs: { ids: picked } },
          );
          picked.forEach((id, row) => {
            const expected = wide.subarray(id * columns, (id + 1) * columns);
            const got = y.subarray(row * columns, (row + 1) * columns);
            expect(
              got.findIndex((value, at) => !Object.is(value, expected[at])),
              `${columns} columns, row ${id}`,
            ).toBe(-1);
          });
        }
      }
    });

  it("takes tables whose parts have different formats", () => {
    const ids = input("ids", "i32", [rows]);
    const table = {
      name: "table",
      parts: [randomPart("q4_0", 16, 64, 1), randomPart("q8_0", 5, 64, 2)],
    };
    const graph = graphOf(
      "embed",
      [ids],
      [{ name: "y", node: ops.take(param("table", [21, 64]), ids) }],
    );
    compare(
      { graphs: [graph], weights: [table] },
      { sizes: { rows: 4 }, inputs: { ids: Int32Array.of(15, 16, 20, 0) } },
      () => 0,
    );
  });
});
