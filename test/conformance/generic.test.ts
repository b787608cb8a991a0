import { describe, expect, it } from "vitest";
import { symbolic, type Dim } from "../../src/ir/dim.ts";
import { graphOf, type Node } from "../../src/ir/graph.ts";
import * as ops from "../../src/ops/index.ts";
import { Reference, Wasm, type Model } from "./harness.ts";
import { randomFloats, randomWeight, vector } from "./random.ts";
import { machine } from "./targets.ts";

const rows = symbolic("rows", 1, 9);
const counts = [1, 2, 4, 9];

interface Case {
  readonly name: string;
  /** Shapes of the inputs a, b, …; `rows` is symbolic. */
  readonly inputs: readonly (readonly Dim[])[];
  readonly build: (...inputs: Node[]) => Node;
  /** Relative to the larger of 1 and the value. */
  readonly tolerance?: number;
  readonly positive?: boolean;
}

const { neg, abs, square, exp, tanh, sigmoid, silu, relu, sqrt, rsqrt } = ops;
const unary = Object.entries({ neg, abs, square, exp, tanh, sigmoid, silu, relu }).flatMap(
  ([name, op]) =>
    [1, 4, 7].map((columns): Case => ({
      name: `${name} of ${columns} columns`,
      inputs: [[rows, columns]],
      build: (a) => op(a),
      tolerance: 1e-6,
    })),
);
const roots = Object.entries({ sqrt, rsqrt }).map(([name, op]): Case => ({
  name,
  inputs: [[rows, 5]],
  build: (a) => op(a),
  tolerance: 1e-6,
  positive: true,
}));
const { add, sub, mul, div, maximum, minimum } = ops;
const binary = Object.entries({ add, sub, mul, div, maximum, minimum }).map(([name, op]): Case => ({
  name,
  inputs: [
    [rows, 7],
    [rows, 7],
  ],
  build: (a, b) => op(a, b),
  tolerance: 1e-6,
}));

const cases: readonly Case[] = [
  ...unary,
  ...roots,
  ...binary,
  { name: "a row along all rows", inputs: [[rows, 6], [6]], build: (a, b) => ops.add(a, b) },
  {
    name: "a row of shape [1, n]",
    inputs: [
      [rows, 6],
      [1, 6],
    ],
    build: (a, b) => ops.sub(b, a),
  },
  {
    name: "a column along all columns",
    inputs: [
      [rows, 6],
      [rows, 1],
    ],
    build: (a, b) => ops.mul(a, b),
  },
  { name: "one number", inputs: [[rows, 6], [1]], build: (a, b) => ops.mul(a, b) },
  {
    name: "three axes",
    inputs: [
      [1, rows, 6],
      [rows, 6],
    ],
    build: (a, b) => ops.mul(a, b),
  },
  {
    name: "constants on either side",
    inputs: [[rows, 5]],
    build: (a) => ops.sub(3, ops.div(a, 2)),
    tolerance: 1e-6,
  },
  {
    name: "a long fused formula",
    inputs: [
      [rows, 5],
      [rows, 5],
    ],
    build: (a, b) => ops.tanh(ops.add(ops.square(ops.relu(a)), ops.mul(ops.sigmoid(b), a))),
    tolerance: 1e-6,
  },
  {
    name: "a value used twice in a formula",
    inputs: [[rows, 5]],
    build: (a) => {
      const s = ops.square(a);
      return ops.add(s, ops.mul(s, a));
    },
    tolerance: 1e-6,
  },
  { name: "sum", inputs: [[rows, 33]], build: (a) => ops.sum(a), tolerance: 1e-5 },
  { name: "mean", inputs: [[rows, 33]], build: (a) => ops.mean(a), tolerance: 1e-6 },
  { name: "max", inputs: [[rows, 33]], build: (a) => ops.max(ops.sub(a, 100)) },
  {
    name: "permute with a symbolic axis",
    inputs: [[rows, 3, 5]],
    build: (a) =>
      ops.permute(a, [2, 1, 0]).shape.length === 3
        ? ops.permute(ops.permute(a, [1, 0, 2]), [1, 0, 2])
        : a,
  },
  {
    name: "permute of inner axes",
    inputs: [[rows, 3, 5]],
    build: (a) => ops.permute(a, [0, 2, 1]),
  },
  {
    name: "permute that ends on a symbolic axis, and back",
    inputs: [[rows, 3]],
    build: (a) => ops.permute(ops.permute(a, [1, 0]), [1, 0]),
  },
  { name: "chunk", inputs: [[rows, 12]], build: (a) => ops.chunk(a, 3, 1) },
  { name: "slice", inputs: [[rows, 2, 9]], build: (a) => ops.slice(a, 2, 7) },
  {
    name: "reshape between operations",
    inputs: [[rows, 12]],
    build: (a) =>
      ops.reshape(ops.permute(ops.reshape(ops.neg(a), [rows, 3, 4]), [0, 2, 1]), [rows, 12]),
  },
  {
    name: "reshape that multiplies the symbolic axis",
    inputs: [[rows, 12]],
    build: (a) => ops.max(ops.reshape(a, [{ ...rows, times: 3 }, 4])),
  },
  {
    name: "concat",
    inputs: [
      [rows, 3],
      [rows, 4],
      [rows, 1],
    ],
    build: (...parts) => ops.concat(parts),
  },
  {
    name: "concat of one value with itself",
    inputs: [[rows, 3]],
    build: (a) => ops.concat([a, a]),
  },
  { name: "last row", inputs: [[rows, 7]], build: (a) => ops.lastRow(a) },
  { name: "last row of three axes", inputs: [[rows, 2, 3]], build: (a) => ops.lastRow(a) },
  {
    name: "softmax",
    inputs: [[rows, 9]],
    build: (a) => {
      const e = ops.exp(ops.sub(a, ops.max(a)));
      return ops.div(e, ops.sum(e));
    },
    tolerance: 1e-6,
  },
  {
    name: "a matrix that is computed",
    inputs: [
      [rows, 6],
      [5, 6],
    ],
    build: (a, b) => ops.linear(a, ops.neg(b)),
    tolerance: 1e-5,
  },
];

const letters = ["a", "b", "c"];
const sizeOf = (shape: readonly Dim[], count: number): number =>
  shape.reduce<number>((size, dim) => size * (typeof dim === "number" ? dim : count), 1);

function valuesFor(test: Case, count: number): Record<string, Float32Array> {
  return Object.fromEntries(
    test.inputs.map((shape, at) => {
      const values = randomFloats(sizeOf(shape, count), at + 1);
      if (test.positive) values.forEach((value, i) => (values[i] = Math.abs(value) + 0.01));
      return [letters[at], values.map((value) => value || 0.5)];
    }),
  );
}

function compare(
  model: Model,
  name: string,
  test: Pick<Case, "tolerance">,
  run: Parameters<Wasm["run"]>[1],
): void {
  const { y: expected } = new Reference(model).run(name, run);
  for (const threads of [1, 2, 3]) {
    const { y } = new Wasm(model, machine, threads).run(name, run);
    expect(y.length).toBe(expected.length);
    const limit = (value: number): number => (test.tolerance ?? 0) * Math.max(1, Math.abs(value));
    const worst = y.findIndex(
      (value, at) => !(Math.abs(value - expected[at]) <= limit(expected[at])),
    );
    expect(worst, `${threads} threads: got ${y[worst]}, not ${expected[worst]}`).toBe(-1);
  }
}

describe("generic code", () => {
  for (const test of cases)
    it(`agrees with its meaning: ${test.name}`, () => {
      const inputs = test.inputs.map((shape, at) => ops.input(letters[at], "f32", shape));
      const graph = graphOf("f", inputs, [{ name: "y", node: test.build(...inputs) }]);
      for (const count of counts)
        compare({ graphs: [graph], weights: [] }, "f", test, {
          sizes: { rows: count },
          inputs: valuesFor(test, count),
        });
    });

  it("takes rows of a computed table", () => {
    const [table, ids] = [
      ops.input("table", "f32", [rows, 5]),
      ops.input("ids", "i32", [symbolic("picked", 1, 4)]),
    ];
    const graph = graphOf("f", [table, ids], [{ name: "y", node: ops.take(ops.neg(table), ids) }]);
    const inputs = { table: randomFloats(45, 1), ids: Int32Array.of(8, 0, 3) };
    compare({ graphs: [graph], weights: [] }, "f", {}, { sizes: { rows: 9, picked: 3 }, inputs });
  });

  it("adds a bias to a matmul, which is no residual", () => {
    const x = ops.input("x", "f32", [rows, 32]);
    const y = ops.add(ops.linear(x, ops.param("w", [9, 32])), ops.param("bias", [9]));
    const model: Model = {
      graphs: [graphOf("f", [x], [{ name: "y", node: y }])],
      weights: [randomWeight("w", "q8_0", 9, 32, 1), vector("bias", randomFloats(9, 2))],
    };
    compare(
      model,
      "f",
      { tolerance: 1e-5 },
      { sizes: { rows: 4 }, inputs: { x: randomFloats(128, 3) } },
    );
  });

  it("multiplies by a matrix that is also used in another way, and by one whose parts mix integers and floats", () => {
    const x = ops.input("x", "f32", [rows, 32]);
    const w = ops.param("w", [4, 32]);
    const both = ops.add(
      ops.linear(x, w),
      ops.sum(ops.mul(ops.slice(ops.reshape(w, [1, 128]), 0, 32), x)),
    );
    const {
      parts: [integers],
    } = randomWeight("", "q8_0", 3, 32, 1);
    const {
      parts: [floats],
    } = randomWeight("", "f16", 1, 32, 2);
    for (const parts of [[integers, floats], randomWeight("w", "q8_0", 4, 32, 1).parts]) {
      const graph = graphOf("f", [x], [{ name: "y", node: both }]);
      compare(
        { graphs: [graph], weights: [{ name: "w", parts }] },
        "f",
        { tolerance: 1e-5 },
        { sizes: { rows: 4 }, inputs: { x: randomFloats(128, 3) } },
      );
    }
  });

  it("refuses broadcasting that it has no code for", () => {
    const [a, b] = [ops.input("a", "f32", [rows, 2, 3]), ops.input("b", "f32", [rows, 1, 3])];
    const graph = graphOf("f", [a, b], [{ name: "y", node: ops.add(a, b) }]);
    expect(() => new Wasm({ graphs: [graph], weights: [] }, machine)).toThrow(/broadcasting/);
  });
});
