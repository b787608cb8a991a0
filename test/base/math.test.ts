import { describe, expect, it } from "vitest";
import { cosSin, exp, log, pow } from "../../src/base/math.ts";
import { ropeAngles, rotate } from "../../src/ops/rope.ts";

/** Largest error relative to the larger of the value and `floor`. */
const worst = (
  count: number,
  xOf: (at: number) => number,
  got: (x: number) => number,
  exact: (x: number) => number,
  floor = 0,
): number =>
  Math.max(
    ...Array.from({ length: count }, (_, at) => {
      const x = xOf(at);
      return Math.abs(got(x) - exact(x)) / Math.max(Math.abs(exact(x)), floor);
    }),
  );

describe("elementary functions", () => {
  it("are those of Math to a few units in the last place of f64", () => {
    expect(worst(5000, (at) => (at - 2500) / 4, exp, Math.exp)).toBeLessThan(1e-15);
    expect(worst(5000, (at) => 1e-3 + at * 7.7, log, Math.log, 1e-3)).toBeLessThan(1e-13);
    expect(worst(100, (at) => 2 ** (at * 20 - 1000), log, Math.log, 1)).toBeLessThan(1e-15);
    expect(
      worst(
        500,
        (at) => -at / 500,
        (x) => pow(1e6, x),
        (x) => 1e6 ** x,
      ),
    ).toBeLessThan(1e-14);
    for (const part of [0, 1])
      expect(
        worst(
          5000,
          (at) => at * at * 0.0391,
          (x) => cosSin(x)[part],
          part ? Math.sin : Math.cos,
          1,
        ),
      ).toBeLessThan(1e-15);
  });
});

describe("rotary positions", () => {
  it("turn pairs (i, i + half) by position × base^(−2i/d)", () => {
    const table = ropeAngles(10_000, 6)(Int32Array.of(0, 5));
    expect([...table.subarray(0, 6)]).toEqual([1, 1, 1, 0, 0, 0]);
    for (const i of [0, 1, 2]) {
      const angle = 5 * 10_000 ** ((-2 * i) / 6);
      expect(table[6 + i]).toBe(Math.fround(Math.cos(angle)));
      expect(table[9 + i]).toBe(Math.fround(Math.sin(angle)));
    }
    const out = rotate(Float32Array.of(1, 0, 0, 0, 0, 2), table, 6);
    expect(out[0]).toBe(table[6]);
    expect(out[3]).toBe(table[9]);
    expect(out[2]).toBeCloseTo(-2 * table[11], 6);
  });
});
