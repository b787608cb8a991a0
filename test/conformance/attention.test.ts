import { describe, expect, it } from "vitest";
import { symbolic } from "../../src/ir/dim.ts";
import { graphOf, type Graph } from "../../src/ir/graph.ts";
import { attend, input, ropeAppend } from "../../src/ops/index.ts";
import { pageTokens, type KvType } from "../../src/quant/kv-page.ts";
import { layoutOf, type Append, type Sequence, type Window } from "./cache-steps.ts";
import { Reference, Wasm, type Model } from "./harness.ts";
import { randomFloats, randomSource } from "./random.ts";
import { machine } from "./targets.ts";

interface Shape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}
const mostTokens = 330;
/** Where V8 does not join vectors fewer sums stay in registers. */
const separate = { ...machine, features: { ...machine.features, revectorize: false } };

function graphFor({ heads, kvHeads, headDim }: Shape, layers: number): Graph {
  const rows = symbolic("rows", 0, mostTokens);
  const qkv = input("qkv", "f32", [rows, (heads + 2 * kvHeads) * headDim]);
  const cache = input("cache", "cache", []);
  const shape = { heads, kvHeads, headDim, kv: "f32" } as const;
  const outputs = Array.from({ length: layers }, (_, layer) => {
    const queries = ropeAppend(qkv, cache, { ...shape, layer, ropeBase: 10_000 });
    const scale = (1 + layer) / Math.sqrt(headDim);
    return { name: `y${layer}`, node: attend(queries, cache, { ...shape, layer, scale }) };
  });
  return graphOf("attention", [qkv, cache], outputs);
}

const pages = 64;
const modelFor = (shape: Shape, kv: KvType, layers = 1): Model => ({
  graphs: [graphFor(shape, layers)],
  weights: [],
  kv,
  pages,
  maxKeys: mostTokens,
});

/** Sequences with their pages scattered over the pool. */
function scatter(lengths: readonly number[], window?: Window): Sequence[] {
  const next = randomSource(7);
  const pool = Array.from({ length: pages }, (_, page) => page)
    .map((page) => ({ page, order: next() }))
    .sort((a, b) => a.order - b.order);
  return lengths.map((length) => ({
    pages: pool.splice(0, Math.ceil(length / pageTokens)).map(({ page }) => page),
    ...(window ? { window } : {}),
  }));
}

type Device = Pick<Wasm, "run">;
const widthOf = ({ heads, kvHeads, headDim }: Shape): number => (heads + 2 * kvHeads) * headDim;

/** The tokens of each sequence of a test. */
const tokensOf = (shape: Shape, lengths: readonly number[]): Float32Array[] =>
  lengths.map((length, at) => randomFloats(length * widthOf(shape), 11 + at));

/** One step; returns the rows of the outputs, appended sequence by sequence. */
function step(
  device: Device,
  shape: Shape,
  tokens: readonly Float32Array[],
  appends: readonly (Append & { at: number })[],
): Float32Array[] {
  const width = widthOf(shape);
  const rows = appends.reduce((sum, { count }) => sum + count, 0);
  const qkv = new Float32Array(rows * width);
  let row = 0;
  for (const { at, start, count } of appends) {
    qkv.set(tokens[at].subarray(start * width, (start + count) * width), row * width);
    row += count;
  }
  const { y0 } = device.run("attention", {
    sizes: { rows },
    inputs: { qkv },
    step: layoutOf(appends),
  });
  const outWidth = shape.heads * shape.headDim;
  let from = 0;
  return appends.map(({ count }) => y0.slice(from * outWidth, (from += count) * outWidth));
}

/** Attention of whole sequences, cut into chunks: each step appends up to `chunk` tokens of every sequence. */
function attendAll(
  device: Device,
  shape: Shape,
  sequences: readonly Sequence[],
  lengths: readonly number[],
  chunk: number,
): Float32Array[] {
  const tokens = tokensOf(shape, lengths);
  const outputs = lengths.map((length) => new Float32Array(length * shape.heads * shape.headDim));
  const longest = Math.max(...lengths);
  for (let start = 0; start < longest; start += chunk) {
    const appends = lengths.flatMap((length, at) =>
      start < length
        ? [{ sequence: sequences[at], at, start, count: Math.min(chunk, length - start) }]
        : [],
    );
    step(device, shape, tokens, appends).forEach((rows, i) =>
      outputs[appends[i].at].set(rows, start * shape.heads * shape.headDim),
    );
  }
  return outputs;
}

function expectClose(
  got: readonly Float32Array[],
  expected: readonly Float32Array[],
  tolerance: number,
): void {
  got.forEach((values, at) => {
    const worst = values.findIndex((value, i) => !(Math.abs(value - expected[at][i]) <= tolerance));
    expect(worst, `sequence ${at}: got ${values[worst]}, not ${expected[at][worst]}`).toBe(-1);
  });
}
/** One of the sequences by itself, in chunks. */
function attendAlone(
  device: Device,
  shape: Shape,
  sequences: readonly Sequence[],
  lengths: readonly number[],
  at: number,
  chunk: number,
): Float32Array {
  const tokens = tokensOf(shape, lengths);
  const out = new Float32Array(lengths[at] * shape.heads * shape.headDim);
  for (let start = 0; start < lengths[at]; start += chunk) {
    const count = Math.min(chunk, lengths[at] - start);
    const [rows] = step(device, shape, tokens, [{ sequence: sequences[at], at, start, count }]);
    out.set(rows, start * shape.heads * shape.headDim);
  }
  return out;
}

function expectSame(
  got: readonly Float32Array[],
  expected: readonly Float32Array[],
  what: string,
): void {
  const differs = got.findIndex((values, at) =>
    values.some((value, i) => value !== expected[at][i]),
  );
  expect(differs, what).toBe(-1);
}

const shapes: readonly Shape[] = [
  { heads: 4, kvHeads: 4, headDim: 8 },
  { heads: 4, kvHeads: 2, headDim: 24 },
  { heads: 9, kvHeads: 3, headDim: 32 },
  { heads: 8, kvHeads: 1, headDim: 64 },
  { heads: 4, kvHeads: 2, headDim: 128 },
  { heads: 6, kvHeads: 3, headDim: 6 },
  { heads: 3, kvHeads: 1, headDim: 10 },
  { heads: 2, kvHeads: 2, headDim: 34 },
  { heads: 2, kvHeads: 1, headDim: 2 },
];
const windows: readonly (Window | undefined)[] = [
  undefined,
  { size: 8, sinks: 0 },
  { size: 16, sinks: 4 },
  { size: 33, sinks: 1 },
  { size: 130, sinks: 17 },
  { size: 200, sinks: 150 },
];
const show = (window: Window | undefined): string =>
  window ? `window ${window.size} with ${window.sinks} sinks` : "no window";

/** Values reach 10: sums of f32 roundings; a stored value may round the other way where it lies within an ulp of the middle. */
const tolerances: Readonly<Record<KvType, number>> = { f32: 2e-5, f16: 1e-4, q8: 1e-4 };

for (const kv of ["f32", "f16", "q8"] as const)
  for (const shape of shapes)
    describe(`attention, ${shape.heads} heads over ${shape.kvHeads} of ${shape.headDim}, ${kv} cache`, () => {
      const model = modelFor(shape, kv);
      it("agrees with its meaning at every length up to 300, with the same bits in chunks and on threads", () => {
        const lengths = [300];
        const sequences = scatter(lengths);
        const one = new Wasm(model, machine);
        const whole = attendAll(one, shape, sequences, lengths, 300);
        const expected = attendAll(new Reference(model), shape, sequences, lengths, 300);
        expectClose(whole, expected, tolerances[kv]);
        for (const chunk of kv === "f32" ? [1, 2, 7, 16, 129] : [1, 16])
          expectSame(attendAll(one, shape, sequences, lengths, chunk), whole, `chunks of ${chunk}`);
        for (const [threads, chunk] of [
          [2, 100],
          [3, 1],
        ])
          expectSame(
            attendAll(new Wasm(model, separate, threads), shape, sequences, lengths, chunk),
            whole,
            `${threads} threads, vectors not joined, chunks of ${chunk}`,
          );
      });
    });

for (const kv of ["f32", "q8"] as const)
  for (const window of windows)
    describe(`attention, ${show(window)}, ${kv} cache`, () => {
      const shape: Shape = { heads: 4, kvHeads: 2, headDim: 24 };
      const model = modelFor(shape, kv);
      it("agrees with its meaning, with the same bits alone or in a crowd, whole or in chunks", () => {
        const lengths = [1, 300, 15, 129, 16, 17, 127, 128];
        const sequences = scatter(lengths, window);
        const most = 40;
        const crowd = attendAll(new Wasm(model, machine), shape, sequences, lengths, most);
        expectClose(
          crowd,
          attendAll(new Reference(model), shape, sequences, lengths, most),
          tolerances[kv],
        );
        const device = new Wasm(model, machine, 2);
        for (const [at, length] of lengths.entries())
          for (const chunk of [1, 7, length])
            expectSame(
              [attendAlone(device, shape, sequences, lengths, at, chunk)],
              [crowd[at]],
              `sequence of ${length} in chunks of ${chunk}`,
            );
      });
    });

describe("attention", () => {
  it("keeps the layers of a cache and their scales apart", () => {
    const shape: Shape = { heads: 4, kvHeads: 2, headDim: 8 };
    const model = modelFor(shape, "f32", 3);
    const sequence = scatter([20])[0];
    const [tokens] = tokensOf(shape, [20]);
    const run = (device: Device) =>
      device.run("attention", {
        sizes: { rows: 20 },
        inputs: { qkv: tokens },
        step: layoutOf([{ sequence, start: 0, count: 20 }]),
      });
    const [got, expected] = [run(new Wasm(model, machine)), run(new Reference(model))];
    for (const name of ["y0", "y1", "y2"]) expectClose([got[name]], [expected[name]], 2e-5);
  });

  it("does nothing in a step without rows", () => {
    const shape = shapes[0];
    const run = () =>
      new Wasm(modelFor(shape, "f32"), machine).run("attention", {
        sizes: { rows: 0 },
        inputs: { qkv: new Float32Array() },
        step: layoutOf([]),
      });
    expect(run().y0).toEqual(new Float32Array());
  });
});
