import { describe, expect, it } from "vitest";
import { bf16ToNumber, f16Table, f16ToNumber, numberToF16 } from "../../src/base/half.ts";

describe("f16", () => {
  it("is what the platform's Float16Array says, all 65536 values, where it has one", (context) => {
    const platform: unknown = Reflect.get(globalThis, "Float16Array");
    if (typeof platform !== "function") return context.skip("this engine has no Float16Array");
    const bits = Uint16Array.from({ length: 65_536 }, (_, at) => at);
    const values = Reflect.construct(platform, [bits.buffer]) as ArrayLike<number>;
    expect([...bits].filter((at) => !Object.is(f16ToNumber(at), values[at]))).toEqual([]);
  });

  it("gives all finite bit patterns back, and infinities", () => {
    for (let bits = 0; bits < 65_536; bits++)
      if (!Number.isNaN(f16ToNumber(bits)) && numberToF16(f16ToNumber(bits)) !== bits)
        expect(bits).toBe(-1);
    expect(Number.isNaN(f16ToNumber(numberToF16(NaN)))).toBe(true);
  });

  it("rounds to nearest, ties to even", () => {
    const cases = [
      [1 + 2 ** -11, 0x3c00],
      [1 + 3 * 2 ** -11, 0x3c02],
      [65_519.99, 0x7bff],
      [65_520, 0x7c00],
      [2 ** -25, 0],
      [1.5 * 2 ** -24, 2],
      [-1e-9, 0x8000],
    ];
    expect(cases.map(([value]) => numberToF16(value))).toEqual(cases.map(([, bits]) => bits));
  });

  it("has a table of the same values", () => {
    expect(f16Table.findIndex((value, bits) => !Object.is(value, f16ToNumber(bits)))).toBe(-1);
  });
});

describe("bf16", () => {
  it("is the upper half of an f32", () => {
    expect([0x3f80, 0xc000, 0x0001, 0x7f80, 0x8000].map(bf16ToNumber)).toEqual([
      1,
      -2,
      2 ** -133,
      Infinity,
      -0,
    ]);
  });
});
