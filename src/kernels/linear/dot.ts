import { i16x8, i32x4, i8x16, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local } from "../../codegen/wasm/builder.ts";
import type { DotKind, WasmFeatures } from "../../codegen/wasm/features.ts";
import type { IntegerLayout } from "../../quant/compute-layout.ts";

type V128 = Expr<"v128">;

/**
 * Four running integer dots, one a lane (row): each step adds, for each row, 4 products of x (the same 4 int8 values
 * in every lane) with that row's 4 quants.
 */
export interface DotSum {
  start(from: V128): void;
  /** `operands`: what `dotOperands` makes of the quants. */
  step(x: Local<"v128">, operands: readonly V128[]): void;
  /** Σ as four i32; ends the sum. */
  end(): V128;
}

/** How a layout's quants are handed to the dots of this machine. */
export interface QuantPlan {
  readonly dot: DotKind;
  /** What to add to a stored quant to get what the dot multiplies; `flip` is quant − 128, by the sign bit. */
  readonly quants: "stored" | "flip" | "halves";
  /** Zero point that the start value must take off, in units of Σx. */
  readonly zero: number;
  /** Largest absolute quant in a dot, which bounds the i16 sums of `pairs`. */
  readonly range: number;
}

export function quantPlan(layout: IntegerLayout, features: WasmFeatures): QuantPlan {
  const { dot } = features;
  const stored = { dot, quants: "stored", zero: layout.zero, range: layout.range } as const;
  if (layout.range <= 127) return stored;
  if (dot === "extended") return { dot, quants: "flip", zero: layout.zero - 128, range: 128 };
  switch (features.wide) {
    case "unsigned":
      return { ...stored, dot: "relaxed" };
    case "signed":
      return { dot: "relaxed", quants: "flip", zero: layout.zero - 128, range: 128 };
    case "halves":
      return { dot, quants: "halves", zero: layout.zero, range: 15 };
    default:
      return features.wide satisfies never;
  }
}

/** A running sum of `steps` dots as this machine computes it best. */
export function dotSum(body: Body, plan: QuantPlan): DotSum {
  if (plan.quants === "halves") return halvesSum(body, plan);
  return plainSum(body, plan);
}

function plainSum(body: Body, plan: QuantPlan): DotSum {
  switch (plan.dot) {
    case "relaxed":
      return relaxedSum(body);
    case "pairs":
      return pairsSum(body, plan.range);
    case "extended":
      return extendedSum(body);
    default:
      return plan.dot satisfies never;
  }
}

function relaxedSum(body: Body): DotSum {
  const sum = body.local("v128");
  return {
    start: (from) => sum.set(from),
    step: (x, [quants]) => sum.set(i32x4.relaxed_dot_i8x16_i7x16_add_s(x, quants, sum)),
    end: () => sum,
  };
}

/** 2 × range × 128 a step fits i16 for so many steps: 8 for 4-bit quants, 1 for 7-bit ones. */
const stepsInI16 = (range: number): number => Math.max(1, Math.floor(32767 / (2 * range * 128)));

/** A product with it adds neighbours as `extadd_pairwise` does, for which V8 makes it anew each time. */
const ones = i16x8.const(Array(8).fill(1));

function pairsSum(body: Body, range: number): DotSum {
  const sum = body.local("v128");
  const pairs = body.local("v128");
  const most = stepsInI16(range);
  let pending = 0;
  const flush = (): void => {
    if (pending > 0) sum.set(i32x4.add(sum, i32x4.dot_i16x8_s(pairs, ones)));
    pending = 0;
  };
  return {
    start: (from) => sum.set(from),
    step: (x, [quants]) => {
      const dot = i16x8.relaxed_dot_i8x16_i7x16_s(x, quants);
      pairs.set(pending === 0 ? dot : i16x8.add(pairs, dot));
      pending++;
      if (pending === most) flush();
    },
    end: () => {
      flush();
      return sum;
    },
  };
}

function extendedSum(body: Body): DotSum {
  const [sum, low, high, kept] = [0, 0, 0, 0].map(() => body.local("v128"));
  let first = true;
  const into = (to: Local<"v128">, product: V128): void => {
    const pairs = i32x4.extadd_pairwise_i16x8_s(product);
    to.set(first ? pairs : i32x4.add(to, pairs));
  };
  return {
    start: (from) => {
      sum.set(from);
      first = true;
    },
    step: (x, [quants]) => {
      kept.set(quants);
      into(low, i16x8.extmul_low_i8x16_s(x, kept));
      into(high, i16x8.extmul_high_i8x16_s(x, kept));
      first = false;
    },
    end: () => {
      const even = i8x16.shuffle(
        low,
        high,
        [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27],
      );
      const odd = i8x16.shuffle(
        low,
        high,
        [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31],
      );
      sum.set(i32x4.add(sum, i32x4.add(even, odd)));
      return sum;
    },
  };
}

/** 8-bit quants as 16 × high half + low half, both in 0 … 15. */
function halvesSum(body: Body, plan: QuantPlan): DotSum {
  const [low, high] = [plainSum(body, plan), plainSum(body, plan)];
  return {
    start: (from) => {
      low.start(from);
      high.start(i32x4.const([0, 0, 0, 0]));
    },
    step: (x, [lows, highs]) => {
      low.step(x, [lows]);
      high.step(x, [highs]);
    },
    end: () => i32x4.add(low.end(), i32x4.shl(high.end(), 4)),
  };
}

export const lowHalf = (quants: V128): V128 => v128.and(quants, i8x16.const(Array(16).fill(15)));
export const highHalf = (quants: V128): V128 => lowHalf(i16x8.shr_u(quants, 4));

export const lowSix = (bytes: V128): V128 => v128.and(bytes, i8x16.const(Array(16).fill(63)));
/** The value of 6 bits that is spread over the highest two of three bytes, lowest bits first. */
export const aboveSix = (bytes: readonly V128[]): V128 =>
  bytes
    .map((part, k) =>
      v128.and(i16x8.shr_u(part, 6 - 2 * k), i8x16.const(Array(16).fill(3 << (2 * k)))),
    )
    .reduce((a, b) => v128.or(a, b));

/** A stored byte vector as the dot wants it: one operand, or two where it takes 4 bits at a time. */
export function dotOperands(body: Body, { quants }: QuantPlan, stored: V128): V128[] {
  switch (quants) {
    case "stored":
      return [stored];
    case "flip":
      return [v128.xor(stored, i8x16.const(Array(16).fill(-128)))];
    case "halves": {
      const kept = body.local(stored);
      return [lowHalf(kept), highHalf(kept)];
    }
    default:
      return quants satisfies never;
  }
}
export const operandsOf = ({ quants }: QuantPlan): number => (quants === "halves" ? 2 : 1);
