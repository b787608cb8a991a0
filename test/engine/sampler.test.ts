import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { exp } from "../../src/base/math.ts";
import type { Sampling } from "../../src/engine/request.ts";
import { sample, uniform } from "../../src/engine/sampler.ts";

/** The definition: all tokens in order, filtered one filter after the other, then one draw. */
function plainly(logits: Float32Array, sampling: Sampling, position: number): number {
  const { temperature, topK, topP, minP, seed } = sampling;
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const ranked = Array.from(logits, (score, id) => ({ id, power: (score - largest) / temperature }))
    .filter(({ power }) => power > -40)
    .sort((a, b) => logits[b.id] - logits[a.id] || a.id - b.id)
    .map(({ id, power }) => ({ id, weight: exp(power) }));
  const sum = (of: typeof ranked): number => of.reduce((total, { weight }) => total + weight, 0);
  const best = topK > 0 ? ranked.slice(0, topK) : ranked;
  const total = sum(best);
  let count = 0;
  for (let before = 0; count < best.length && (count === 0 || before < topP * total); count++)
    before += best[count].weight;
  const kept = best.slice(0, count).filter(({ weight }) => weight >= minP);
  let left = uniform(seed, position) * sum(kept);
  return (kept.find(({ weight }) => (left -= weight) < 0) ?? kept[kept.length - 1]).id;
}

const logits = fc.oneof(
  fc.array(fc.float({ min: -60, max: 60, noNaN: true }), { minLength: 1, maxLength: 300 }),
  fc.array(fc.integer({ min: -4, max: 4 }), { minLength: 1, maxLength: 300 }), // many equal ones
  fc.array(fc.constantFrom(-Infinity, 0, 1, 2), { maxLength: 50 }).map((some) => [3, ...some]),
);
const sampling = fc.record({
  temperature: fc.constantFrom(0.01, 0.3, 1, 2, 100),
  topK: fc.constantFrom(0, 1, 2, 17, 1000),
  topP: fc.constantFrom(0, 0.1, 0.5, 0.95, 1),
  minP: fc.constantFrom(0, 0.01, 0.3, 1),
  repetitionPenalty: fc.constant(1),
  seed: fc.nat(),
});

describe("sampling", () => {
  it("draws what the definition draws, for any logits and options", () => {
    fc.assert(
      fc.property(logits, sampling, fc.nat(), (values, options, position) => {
        const scores = Float32Array.from(values);
        const expected = plainly(scores, options, position);
        expect(sample(scores, options, position, new Set())).toBe(expected);
      }),
      { numRuns: 3000 },
    );
  });

  it("takes the first of the largest at temperature 0, after the penalty", () => {
    const options = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 2, seed: 0 };
    expect(sample(Float32Array.of(1, 3, 3, 2), options, 0, new Set())).toBe(1);
    expect(sample(Float32Array.of(1, 3, 3, 2), options, 0, new Set([1]))).toBe(2);
    expect(sample(Float32Array.of(-1, -3), options, 0, new Set([0]))).toBe(0);
    expect(sample(Float32Array.of(-2, -3), options, 0, new Set([0]))).toBe(1);
  });
});
