import { i16x8, i32x4, i8x16, v128, type Expr } from "../../src/codegen/wasm/builder.ts";
import type { WasmFeatures, WideKind } from "../../src/codegen/wasm/features.ts";
import { probeFeatures } from "../../src/devices/wasm/probe.ts";

/** A way to compute integer dots. */
export interface Target {
  readonly name: string;
  readonly features: WasmFeatures;
}

/** Where V8 joins vectors, tiles have twice the rows: `unsigned` stands for those too. */
export const targets: readonly Target[] = [
  { name: "words", features: { dot: "words", wide: "words", revectorize: false } },
  ...(["relaxed", "pairs"] as const).flatMap((dot) =>
    (["unsigned", "signed", "words"] as const).map((wide) => ({
      name: `${dot}, 8 bits ${wide}`,
      features: { dot, wide, revectorize: wide === "unsigned" },
    })),
  ),
];

/** What the engine would choose on this machine. */
const { dot, wide } = probeFeatures({ mayRevectorize: false });
export const machine: Target = { name: "this machine", features: { dot, wide, revectorize: true } };

type V128 = Expr<"v128">;
const bytes = (value: number): V128 => i8x16.const(Array<number>(16).fill(value));

function signedDot(x: V128, w: V128): V128 {
  const low = i32x4.extadd_pairwise_i16x8_s(i16x8.extmul_low_i8x16_s(x, w));
  const high = i32x4.extadd_pairwise_i16x8_s(i16x8.extmul_high_i8x16_s(x, w));
  const evens = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27];
  const odds = evens.map((at) => at + 4);
  return i32x4.add(i8x16.shuffle(low, high, evens), i8x16.shuffle(low, high, odds));
}

/** Σ x·w with unsigned w = Σ x·(w − 128) + 2 × Σ 64·x. */
const unsignedDot = (x: V128, w: V128): V128 =>
  i32x4.add(signedDot(x, v128.xor(w, bytes(-128))), i32x4.shl(signedDot(x, bytes(64)), 1));

const exact = { signed: signedDot, unsigned: unsignedDot } as const;

/**
 * Compiles with the dots that a target asks for. Where this machine's relaxed dot reads 8-bit operands in another way, plain
 * instructions that do stand in its place, so that every variant runs on every machine.
 */
export function withDots<T>({ features }: Target, build: () => T): T {
  const own: WideKind = machine.features.wide;
  if (features.wide === "words" || features.wide === own) return build();
  const product = exact[features.wide];
  const native = i32x4.relaxed_dot_i8x16_i7x16_add_s;
  const put = (dot: typeof native): void =>
    void Object.assign(i32x4, { relaxed_dot_i8x16_i7x16_add_s: dot });
  put((x, w, sum) => i32x4.add(sum, product(x as V128, w as V128)));
  try {
    return build();
  } finally {
    put(native);
  }
}
