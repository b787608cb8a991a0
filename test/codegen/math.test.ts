import { describe, expect, it } from "vitest";
import { f16ToNumber, numberToF16 } from "../../src/base/half.ts";
import { i32, v128, WasmModule, type Body, type Expr } from "../../src/codegen/wasm/builder.ts";
import {
  expF32x4,
  f16ToF32x4,
  f32x4ToF16,
  sigmoidF32x4,
  tanhF32x4,
} from "../../src/codegen/wasm/math.ts";

type Vector = (body: Body, x: Expr<"v128">) => Expr<"v128">;
const most = 65_536;

/** A function of four lanes as one of arrays. */
function arrayFunction(vector: Vector): (values: Float32Array | Int32Array) => Float32Array {
  const module = new WasmModule({ memory: { initial: 8, maximum: 8, shared: false } });
  module.func("run", { bytes: "i32" }, "void", ({ bytes }, body) =>
    body.for(0, bytes, 16, (at) =>
      body.emit(v128.store(i32.add(at, 4 * most), vector(body, v128.load(at)))),
    ),
  );
  const memory = new WebAssembly.Memory({ initial: 8, maximum: 8 });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.toBytes()), {
    env: { memory },
  });
  return (values) => {
    new Int32Array(memory.buffer).set(
      new Int32Array(values.buffer, values.byteOffset, values.length),
    );
    (exports.run as (bytes: number) => void)(4 * values.length);
    return new Float32Array(memory.buffer, 4 * most, values.length).slice();
  };
}

/** Unit in the last place of an f32 value. */
const ulp = (value: number): number =>
  2 ** (Math.max(-126, Math.floor(Math.log2(Math.abs(value) || 2 ** -126))) - 23);
const range = (from: number, to: number): Float32Array =>
  Float32Array.from({ length: most }, (_, at) => from + ((to - from) * at) / (most - 1));
/** Numbers of every size, both signs, from subnormals to the largest. */
const everySize = Float32Array.from({ length: most }, (_, at) => {
  const value = 2 ** ((at >> 1) / 118 - 149);
  return at & 1 ? -value : value;
});

function worstUlps(
  f: (values: Float32Array) => Float32Array,
  exact: (x: number) => number,
  xs: Float32Array,
): number {
  const got = f(xs);
  return xs.reduce(
    (worst, x, at) => Math.max(worst, Math.abs(got[at] - exact(x)) / ulp(exact(x))),
    0,
  );
}

describe("exp", () => {
  const exp = arrayFunction(expF32x4);
  it("is within 2 units in the last place where e^x is a normal number", () => {
    for (const xs of [range(-87.3, 88.37), range(-1, 1), range(-1e-3, 1e-3)])
      expect(worstUlps(exp, Math.exp, xs)).toBeLessThan(2);
  });

  it("is within 60 units up to the largest number", () => {
    expect(worstUlps(exp, Math.exp, range(88.37, 88.722))).toBeLessThan(60);
  });

  it("is 1 at 0, 0 far below, infinite far above, and NaN of NaN", () => {
    const got = exp(
      Float32Array.of(0, -0, -87.4, -1e30, -Infinity, 88.8, 1e30, Infinity, NaN, 1, -88, 89),
    );
    expect([...got.subarray(0, 9)]).toEqual([1, 1, 0, 0, 0, Infinity, Infinity, Infinity, NaN]);
  });

  it("never falls as x rises", () => {
    const got = exp(range(-90, 90));
    expect(got.findIndex((value, at) => at > 0 && value < got[at - 1])).toBe(-1);
  });
});

describe("sigmoid", () => {
  const sigmoid = arrayFunction(sigmoidF32x4);
  it("is within 4 units in the last place, and within 1e-37 where it is next to nothing", () => {
    const exact = (x: number): number => 1 / (1 + Math.exp(-x));
    expect(worstUlps(sigmoid, exact, range(-85, 30))).toBeLessThan(4);
    const xs = Float32Array.of(-1e30, -Infinity, -100, 0, 100, 1e30, Infinity, NaN);
    const got = sigmoid(xs);
    expect(xs.findIndex((x, at) => Math.abs(got[at] - exact(x)) > 1e-37)).toBe(-1);
    expect(got[7]).toBeNaN();
  });
});

describe("tanh", () => {
  const tanh = arrayFunction(tanhF32x4);
  it("is within 1e-7 of the truth, and relatively within 2e-4 near 0", () => {
    for (const xs of [range(-20, 20), range(-1, 1), everySize]) {
      const got = tanh(xs);
      xs.forEach((x, at) => {
        if (!(Math.abs(got[at] - Math.tanh(x)) <= Math.min(2.5e-7, 2e-4 * Math.abs(x))))
          expect([x, got[at]]).toEqual([x, Math.tanh(x)]);
      });
    }
  });

  it("is ±1 far out, keeps the sign of zero, and NaN", () => {
    expect([
      ...tanh(Float32Array.of(40, -40, Infinity, -Infinity, 0, -0, NaN, 0.5)).subarray(0, 7),
    ]).toEqual([1, -1, 1, -1, 0, -0, NaN]);
  });
});

const allHalves = Int32Array.from({ length: most }, (_, bits) => bits);

describe("f16 to f32", () => {
  /** Halves come sign-extended, as load16x4_s gives them. */
  const convert = arrayFunction((_, x) => f16ToF32x4(x));
  it("is exact for all finite halves, zeros and subnormals included", () => {
    const got = convert(allHalves.map((bits) => (bits << 16) >> 16));
    const wrong = allHalves.filter(
      (bits) => Number.isFinite(f16ToNumber(bits)) && !Object.is(got[bits], f16ToNumber(bits)),
    );
    expect([...wrong]).toEqual([]);
  });
});

describe("f32 to f16", () => {
  const convert = arrayFunction(f32x4ToF16);
  const bitsOf = (values: Float32Array): Int32Array => new Int32Array(convert(values).buffer);
  it("gives every half back, and rounds what lies between to nearest even", () => {
    const finite = allHalves.filter((bits) => Number.isFinite(f16ToNumber(bits)));
    expect([...bitsOf(Float32Array.from(finite, f16ToNumber))]).toEqual([...finite]);
    for (const part of [0.25, 0.5, 0.75]) {
      const between = Float32Array.from(finite, (bits) => {
        const [low, high] = [f16ToNumber(bits), f16ToNumber(bits + 1)];
        return (
          low + part * ((Number.isFinite(high) ? high : 2 * low - f16ToNumber(bits - 1)) - low)
        );
      });
      expect([...bitsOf(between)]).toEqual([...between].map(numberToF16));
    }
  });

  it("goes to zero below, to infinity beyond 65504", () => {
    const values = Float32Array.of(
      1e-30,
      -1e-30,
      2 ** -25,
      2 ** -24,
      65_519,
      65_520,
      -1e30,
      Infinity,
    );
    expect([...bitsOf(values)]).toEqual([0, 0x8000, 0, 1, 0x7bff, 0x7c00, 0xfc00, 0x7c00]);
    expect([...bitsOf(everySize)]).toEqual([...everySize].map(numberToF16));
  });
});
