import { symbolic } from "../../src/ir/dim.ts";
import { graphOf, type Node } from "../../src/ir/graph.ts";
import * as ops from "../../src/ops/index.ts";
import type { Model, WeightData } from "../conformance/harness.ts";
import { randomFloats, randomSource, randomWeight, vector } from "../conformance/random.ts";

export const width = 32;
export const mostRows = 8;
const rows = symbolic("rows", 1, mostRows);
const attention = { heads: 2, kvHeads: 1, headDim: 8, kv: "f32" } as const;

const norm = (x: Node, weight: Node): Node =>
  ops.mul(ops.mul(x, ops.rsqrt(ops.add(ops.mean(ops.square(x)), 0.1))), weight);

/** A function of values [rows, 32] that branch and join at random, with everything that decoders are made of. */
export function randomModel(seed: number): Model {
  const next = randomSource(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)];
  const weights: WeightData[] = [];
  const matrix = (outputs: number): Node => {
    const name = `w${weights.length}`;
    weights.push(randomWeight(name, pick(["f32", "q8_0", "q4_1"]), outputs, width, weights.length));
    return ops.param(name, [outputs, width]);
  };
  const scale = (): Node => {
    const name = `n${weights.length}`;
    weights.push(vector(name, randomFloats(width, weights.length)));
    return ops.param(name, [width]);
  };
  const [x, cache] = [ops.input("x", "f32", [rows, width]), ops.input("cache", "cache", [])];
  let layer = 0;
  const values: Node[] = [x];
  const recent = (): Node => pick(values.slice(-4));
  /** Keeps values near 1, so that errors do not grow from step to step. */
  const tame = (value: Node): Node => ops.tanh(value);
  const makers: readonly (() => Node)[] = [
    () => tame(ops.linear(recent(), matrix(width))),
    () => tame(ops.add(recent(), ops.linear(recent(), matrix(width)))),
    () => tame(norm(recent(), scale())),
    () => ops.add(recent(), ops.mul(recent(), 0.5)),
    () => ops.relu(ops.sub(recent(), recent())),
    () => {
      const both = ops.linear(recent(), matrix(2 * width));
      return tame(ops.mul(ops.silu(ops.chunk(both, 2, 0)), ops.chunk(both, 2, 1)));
    },
    () => ops.reshape(ops.permute(ops.reshape(recent(), [rows, 4, 8]), [0, 2, 1]), [rows, width]),
    () => ops.concat([ops.chunk(recent(), 2, 1), ops.slice(recent(), 0, 16)]),
    () => {
      const place = { ...attention, layer: layer++ };
      const queries = ops.ropeAppend(ops.linear(recent(), matrix(width)), cache, {
        ...place,
        ropeBase: 100,
      });
      const seen = ops.attend(queries, cache, { ...place, scale: 0.3 });
      return ops.concat([seen, ops.chunk(recent(), 2, 0)]);
    },
  ];
  for (let n = 0; n < 14; n++) values.push(pick(makers)());
  const outputs = [
    { name: "y", node: ops.neg(values[values.length - 1]) },
    { name: "z", node: ops.lastRow(values[values.length - 2]) },
  ];
  const graph = graphOf("f", [x, cache], outputs);
  return { graphs: [graph], weights, digits: 2, pages: 2, maxKeys: 32 };
}
