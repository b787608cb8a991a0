import { describe, expect, it } from "vitest";
import { applyPasses, passesFor } from "../../src/compiler/pipeline.ts";
import { placeBuffers, type Lifetime } from "../../src/compiler/plan-function.ts";
import { symbolic } from "../../src/ir/dim.ts";
import { graphOf, type Graph } from "../../src/ir/graph.ts";
import * as ops from "../../src/ops/index.ts";
import type { PlannedBuffer, PlannedFunction, Step } from "../../src/plan/plan.ts";
import { layoutOf } from "../conformance/cache-steps.ts";
import { compileModel, Reference, verified, Wasm, type Model } from "../conformance/harness.ts";
import { randomFloats, randomSource, randomWeight, vector } from "../conformance/random.ts";
import { machine } from "../conformance/targets.ts";
import { mostRows, randomModel, width } from "./random-graph.ts";

const seeds = Array.from({ length: 60 }, (_, seed) => seed + 1);
const planOf = (model: Model): PlannedFunction =>
  compileModel(model, machine.features).plan.functions[0];

/** Buffers that a step's programs are given, by number. */
const buffersOf = ({ variants }: Step): Set<number> =>
  new Set(
    variants.flatMap(({ calls }) =>
      calls.flatMap(({ args }) =>
        args.flatMap((arg) => (arg.kind === "buffer" ? [arg.buffer] : [])),
      ),
    ),
  );
const layersOf = ({ variants }: Step): Set<number> =>
  new Set(
    variants.flatMap(({ calls }) =>
      calls.flatMap(({ args }) => args.flatMap((arg) => (arg.kind === "pages" ? [arg.layer] : []))),
    ),
  );

function shareMemory(a: PlannedBuffer, b: PlannedBuffer): boolean {
  if (a.place.kind === "slot" || b.place.kind === "slot") return a === b;
  return a.place.offset < b.place.offset + b.bytes && b.place.offset < a.place.offset + a.bytes;
}

describe("memory of a function", () => {
  it("is never shared by values that are alive at the same time", () => {
    for (const seed of seeds) {
      const { buffers, steps } = planOf(randomModel(seed));
      const used = steps.map(buffersOf);
      const lives = buffers.map((_, buffer) => {
        const at = used.flatMap((set, step) => (set.has(buffer) ? [step] : []));
        return { from: at[0], to: at[at.length - 1] };
      });
      for (const [a, first] of buffers.entries())
        for (const [b, second] of buffers.entries())
          if (a < b && lives[a].from <= lives[b].to && lives[b].from <= lives[a].to)
            expect(
              shareMemory(first, second),
              `seed ${seed}: ${first.name} and ${second.name}`,
            ).toBe(false);
    }
  });

  it("is used again: a chain of values needs two places", () => {
    const x = ops.input("x", "f32", [16, 64]);
    const chain = Array.from({ length: 9 }).reduce<typeof x>(
      (value) => ops.permute(value, [1, 0]),
      x,
    );
    const { arenaBytes } = planOf({
      graphs: [graphOf("f", [x], [{ name: "y", node: chain }])],
      weights: [],
    });
    expect(arenaBytes).toBe(2 * 16 * 64 * 4);
  });

  it("is as small as the largest sum of lives where lives nest, and never overlaps", () => {
    const next = randomSource(4);
    for (let n = 0; n < 50; n++) {
      const lives: Lifetime[] = Array.from({ length: 20 }, () => {
        const from = Math.floor(20 * next());
        return { bytes: Math.floor(1000 * next()), from, to: from + Math.floor(6 * next()) };
      });
      const { offsets, bytes } = placeBuffers(lives);
      lives.forEach((a, i) =>
        lives.forEach((b, j) => {
          if (i >= j || a.from > b.to || b.from > a.to) return;
          expect(offsets[i] + a.bytes <= offsets[j] || offsets[j] + b.bytes <= offsets[i]).toBe(
            true,
          );
        }),
      );
      expect(Math.max(...offsets.map((offset, i) => offset + lives[i].bytes))).toBeLessThanOrEqual(
        bytes,
      );
    }
  });
});

describe("barriers", () => {
  it("stand between a step that writes memory and any other that uses it", () => {
    for (const seed of seeds) {
      const { buffers, steps } = planOf(randomModel(seed));
      const used = steps.map(buffersOf);
      /** The first step that is given a buffer is the one that writes it; inputs are written before. */
      const writes = (step: number, buffer: number): boolean =>
        buffers[buffer].name !== "x" && used.findIndex((set) => set.has(buffer)) === step;
      const conflict = (first: number, second: number): boolean =>
        [...used[first]].some((a) =>
          [...used[second]].some(
            (b) => shareMemory(buffers[a], buffers[b]) && (writes(first, a) || writes(second, b)),
          ),
        ) ||
        (steps[first].name.startsWith("rope-append") &&
          [...layersOf(steps[first])].some((layer) => layersOf(steps[second]).has(layer)));
      for (let second = 0; second < steps.length; second++)
        for (let first = second - 1; first >= 0 && !steps[first + 1].barrier; first--) {
          if (steps.slice(first + 1, second + 1).some(({ barrier }) => barrier)) break;
          expect(
            conflict(first, second),
            `seed ${seed}: ${steps[first].name}, then ${steps[second].name}`,
          ).toBe(false);
        }
    }
  });

  it("are few: steps that only read the same value stand side by side", () => {
    const x = ops.input("x", "f32", [2, 32]);
    const outputs = ["a", "b", "c"].map((name) => ({
      name,
      node: ops.linear(x, ops.param(name, [8, 32])),
    }));
    const weights = outputs.map(({ name }) => randomWeight(name, "f32", 8, 32, 1));
    expect(
      planOf({ graphs: [graphOf("f", [x], outputs)], weights }).steps.map(({ barrier }) => barrier),
    ).toEqual([false, false, false]);
  });
});

const inputsFor = (rows: number) => ({
  sizes: { rows },
  inputs: { x: randomFloats(rows * width, rows) },
  step: layoutOf([{ sequence: { pages: [1] }, start: 0, count: rows }]),
});

describe("compiled functions", () => {
  it("agree with their meaning, with the same bits on every number of threads", () => {
    for (const seed of seeds) {
      const model = randomModel(seed);
      const [one, first, last] = [
        new Wasm(model, machine),
        new Wasm(model, machine, 3, "first ahead"),
        new Wasm(model, machine, 3, "last ahead"),
      ];
      for (const rows of [1, 5, mostRows]) {
        const run = inputsFor(rows);
        const got = one.run("f", run);
        const expected = new Reference(model).run("f", run);
        for (const output of ["y", "z"]) {
          const errors = got[output].map((value, at) => Math.abs(value - expected[output][at]));
          expect(Math.max(...errors), `seed ${seed}, ${output}`).toBeLessThan(1e-2);
        }
        expect(first.run("f", run), `seed ${seed}`).toEqual(got);
        expect(last.run("f", run), `seed ${seed}`).toEqual(got);
      }
    }
  });

  it("must have outputs that are computed, once, and that are named unlike the inputs", () => {
    const x = ops.input("x", "f32", [symbolic("rows", 1, 4), 8]);
    const y = ops.neg(x);
    for (const outputs of [
      [{ name: "y", node: x }],
      [{ name: "y", node: ops.reshape(x, [8, x.shape[0]]) }],
      [{ name: "x", node: y }],
      [
        { name: "a", node: y },
        { name: "b", node: y },
      ],
    ])
      expect(() => planOf({ graphs: [graphOf("f", [x], outputs)], weights: [] })).toThrow(
        /must be computed, once/,
      );
  });

  it("need all their weights", () => {
    const x = ops.input("x", "f32", [2, 8]);
    const graph = graphOf(
      "f",
      [x],
      [{ name: "y", node: ops.linear(x, ops.param("missing", [8, 8])) }],
    );
    expect(() => planOf({ graphs: [graph], weights: [] })).toThrow(
      "the model needs the weight missing",
    );
  });
});

describe("passes", () => {
  const weightShapes = (model: Model) =>
    new Map(model.weights.map(({ name, parts }) => [name, parts]));
  for (const name of ["simplify", "take-early", "merge-equal"])
    it(`${name} keeps the meaning to the bit`, () => {
      for (const seed of seeds) {
        const model = randomModel(seed);
        const [graph] = model.graphs;
        const passes = passesFor({ digits: 1, kv: "f32" }, weightShapes(model)).filter(
          ([own]) => own === name,
        );
        const run = inputsFor(mostRows);
        const [before, after] = [graph, applyPasses(graph, passes, verified)].map((g) =>
          new Reference(model, [g]).run("f", run),
        );
        expect(passes.length).toBe(1);
        expect(after).toEqual(before);
      }
    });

  it("rounding happens before every matmul by integers, and nowhere else", () => {
    const x = ops.input("x", "f32", [2, 32]);
    const outputs = (["q4_0", "f16"] as const).map((name) => ({
      name,
      node: ops.linear(x, ops.param(name, [8, 32])),
    }));
    const weights = (["q4_0", "f16"] as const).map((name) => randomWeight(name, name, 8, 32, 1));
    const model: Model = { graphs: [graphOf("f", [x], outputs)], weights };
    const graph = applyPasses(
      model.graphs[0],
      passesFor({ digits: 2, kv: "f32" }, weightShapes(model)),
    );
    expect(graph.outputs.map(({ node }) => ops.isRound(node.inputs[0]))).toEqual([true, false]);
  });

  it("rounding gives two digits to the matmuls behind the last attention", () => {
    const shape = { layer: 0, heads: 1, kvHeads: 1, headDim: 32, kv: "f32" } as const;
    const [x, cache] = [ops.input("x", "f32", [2, 32]), ops.input("cache", "cache", [])];
    const names = ["qkv", "o", "head"];
    const [qkv, o, head] = names.map((name, at) => ops.param(name, [at === 0 ? 96 : 32, 32]));
    const queries = ops.ropeAppend(ops.linear(x, qkv), cache, { ...shape, ropeBase: 100 });
    const state = ops.linear(ops.attend(queries, cache, { ...shape, scale: 1 }), o);
    const y = ops.reshape(ops.linear(state, head), [1, 2, 32]);
    const graph = graphOf("f", [x, cache], [{ name: "y", node: y }]);
    const weights = names.map((name, at) => randomWeight(name, "q8_0", at === 0 ? 96 : 32, 32, at));
    const passes = passesFor({ digits: 1, kv: "f32" }, weightShapes({ graphs: [graph], weights }));
    const rounds = applyPasses(graph, passes).nodes.filter(ops.isRound);
    expect(rounds.map((node) => node.number("digits"))).toEqual([1, 2, 2]);
  });

  it("taking early leaves no work for rows that are not taken, and all of it where they are used", () => {
    const x = ops.input("x", "f32", [symbolic("rows", 1, mostRows), width]);
    const at = ops.input("at", "i32", [symbolic("taken", 1, mostRows)]);
    const inner = ops.chunk(ops.linear(ops.square(x), ops.param("w", [2 * width, width])), 2, 1);
    const y = { name: "y", node: ops.take(ops.add(x, inner), at) };
    const weights = new Map([["w", randomWeight("w", "f32", 2 * width, width, 1).parts]]);
    const passes = passesFor({ digits: 1, kv: "f32" }, weights);
    const counted = (name: string, outputs: Graph["outputs"]): number =>
      applyPasses(graphOf("f", [x, at], outputs), passes).nodes.filter(
        ({ shape: [rows] }) => typeof rows === "object" && rows.name === name,
      ).length;
    expect(counted("rows", [y])).toBe(1);
    expect(counted("taken", [y])).toBe(6);
    expect(counted("rows", [y, { name: "z", node: inner }])).toBe(4);
  });

  it("merging computes a value that is asked for twice once", () => {
    const x = ops.input("x", "f32", [2, 8]);
    const node = ops.add(ops.exp(ops.neg(x)), ops.exp(ops.neg(x)));
    const model: Model = {
      graphs: [graphOf("f", [x], [{ name: "y", node }])],
      weights: [vector("unused", new Float32Array(1))],
    };
    const graph = applyPasses(model.graphs[0], passesFor({ digits: 1, kv: "f32" }, new Map()));
    expect(graph.nodes.map(({ op }) => op.name)).toEqual(["input", "neg", "exp", "add"]);
  });
});
