import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { merge, PairTable } from "../../src/text/merging.ts";

interface Merge {
  readonly left: number;
  readonly right: number;
  readonly rank: number;
  readonly result: number;
}

const tableOf = (merges: readonly Merge[]): PairTable =>
  new PairTable(merges.flatMap(({ left, right, rank, result }) => [left, right, rank, result]));

/** The definition: look through all neighbours for the lowest rank, leftmost; join them; again. */
function mergeSlowly(symbols: readonly number[], merges: readonly Merge[]): number[] {
  const ids = [...symbols];
  for (;;) {
    const found = ids
      .slice(1)
      .map((right, at) => merges.find((merge) => merge.left === ids[at] && merge.right === right));
    const ranks = found.map((merge) => merge?.rank ?? Infinity);
    const best = Math.min(...ranks);
    if (best === Infinity) return ids;
    const at = ranks.indexOf(best);
    ids.splice(at, 2, found[at]?.result ?? -1);
  }
}

const id = fc.nat({ max: 7 });
const merges = fc.array(fc.record({ left: id, right: id, rank: fc.nat({ max: 5 }), result: id }));
/** One merge for a pair, as in a vocabulary. */
const distinct = (merges: readonly Merge[]): Merge[] => [
  ...new Map(merges.map((merge) => [`${merge.left} ${merge.right}`, merge])).values(),
];

describe("merging", () => {
  it("does what the definition says, for any merges and ranks", () => {
    fc.assert(
      fc.property(fc.array(id, { maxLength: 40 }), merges.map(distinct), (symbols, merges) => {
        expect(merge(symbols, tableOf(merges))).toEqual(mergeSlowly(symbols, merges));
      }),
      { numRuns: 2000 },
    );
  });

  it("prefers the leftmost of equal ranks: a a a → aa a", () => {
    const pairs = tableOf([{ left: 0, right: 0, rank: 0, result: 1 }]);
    expect(merge([0, 0, 0], pairs)).toEqual([1, 0]);
  });

  it("keeps the first of two merges for the same pair", () => {
    const merges = [1, 2].map((result) => ({ left: 0, right: 0, rank: result, result }));
    expect(merge([0, 0], tableOf(merges))).toEqual([1]);
  });
});
