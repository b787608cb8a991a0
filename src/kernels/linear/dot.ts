import { i16x8, i32x4, i8x16, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local } from "../../codegen/wasm/builder.ts";
import type { DotKind, WasmFeatures } from "../../codegen/wasm/features.ts";
import type { Digits } from "../../ops/index.ts";
import type { IntegerLayout } from "../../quant/compute-layout.ts";

type V128 = Expr<"v128">;
type Vector = Local<"v128">;
/** A vector that is computed where it is first asked for: so it takes no register before. */
export type Late = () => Vector;

export const late = (body: Body, value: () => V128): Late => {
  let kept: Vector | undefined;
  return () => (kept ??= body.local(value()));
};

export const zeros = (): V128 => i32x4.const([0, 0, 0, 0]);

/**
 * Four running integer dots, one a lane (row): each step adds, for each row, the products of a few columns of x (the same int8 or
 * int16 values in every lane) with that row's quants.
 */
export interface DotSum {
  /** `taken` is taken off the sum, at the start or in the end; nothing where it is absent. */
  start(taken: Late | undefined): void;
  /** `x`: a vector a digit. `operands`: what `dotOperands` makes of the quants. */
  step(x: readonly Vector[], operands: readonly V128[]): void;
  /** Σ as four i32; ends the sum. */
  end(): V128;
}

/** How a layout's quants are handed to the dots of this machine. */
export interface QuantPlan {
  readonly dot: DotKind;
  /**
   * What to add to a stored quant to get what the dot multiplies; `flip` is quant − 128, by the sign bit. `words`: quants and
   * values of x are int16, two columns a step, all digits of x in one.
   */
  readonly quants: "stored" | "flip" | "halves" | "words";
  /** Zero point that is still in what the dot multiplies, so that zero × Σx is to be taken off. */
  readonly zero: number;
  /** Largest absolute quant in a dot, which bounds the i16 sums of `pairs`. */
  readonly range: number;
}

/** How many rows of x there are: weights are unpacked in registers, once a row, or into panels, once for all rows. */
export type RowsKind = "few" | "many";

/**
 * Many rows are multiplied as words where bytes would need two products. For few rows, which wait for memory, words would have
 * to be made each time.
 */
export function quantPlan(
  layout: IntegerLayout,
  features: WasmFeatures,
  digits: Digits,
  rows: RowsKind,
): QuantPlan {
  const plan = bytePlan(layout, features);
  const { dot, quants } = plan;
  const isTwice = dot === "extended" || quants === "halves" || (dot === "pairs" && digits === 2);
  return rows === "many" && isTwice ? { ...plan, quants: "words", zero: 0 } : plan;
}

function bytePlan(layout: IntegerLayout, features: WasmFeatures): QuantPlan {
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

/** A running sum of dots as this machine computes it best. */
export function dotSum(body: Body, plan: QuantPlan, digits: Digits): DotSum {
  if (plan.quants === "words") return wordsSum(body);
  return digits === 2 ? digitsSum(body, plan) : digitSum(body, plan);
}

const digitSum = (body: Body, plan: QuantPlan): DotSum =>
  plan.quants === "halves" ? halvesSum(body, plan) : bytesSum(body, plan);

function bytesSum(body: Body, plan: QuantPlan): DotSum {
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

/** x = high digit × 256 + low digit. */
function digitsSum(body: Body, plan: QuantPlan): DotSum {
  const [high, low] = [digitSum(body, plan), digitSum(body, plan)];
  return {
    start: (taken) => {
      high.start(undefined);
      low.start(taken);
    },
    step: ([highs, lows], operands) => {
      high.step([highs], operands);
      low.step([lows], operands);
    },
    end: () => i32x4.add(i32x4.shl(high.end(), 8), low.end()),
  };
}

const less = (sum: V128, taken: Late | undefined): V128 => (taken ? i32x4.sub(sum, taken()) : sum);
/** The first sum of some needs no addition. */
const plus = (sum: V128 | undefined, term: V128): V128 => (sum ? i32x4.add(sum, term) : term);

function wordsSum(body: Body): DotSum {
  const kept = body.local("v128");
  let sum: Vector | undefined;
  let taken: Late | undefined;
  return {
    start: (off) => {
      sum = undefined;
      taken = off;
    },
    step: ([x], [quants]) => {
      kept.set(plus(sum, i32x4.dot_i16x8_s(x, quants)));
      sum = kept;
    },
    end: () => less(kept, taken),
  };
}

function relaxedSum(body: Body): DotSum {
  const sum = body.local("v128");
  return {
    start: (taken) => sum.set(less(zeros(), taken)),
    step: ([x], [quants]) => sum.set(i32x4.relaxed_dot_i8x16_i7x16_add_s(x, quants, sum)),
    end: () => sum,
  };
}

/** 2 × range × 128 a step fits i16 for so many steps: 8 for 4-bit quants, 1 for 7-bit ones. */
const stepsInI16 = (range: number): number => Math.max(1, Math.floor(32767 / (2 * range * 128)));

/** A product with it adds neighbours as `extadd_pairwise` does, for which V8 makes it anew each time. */
const ones = i16x8.const(Array(8).fill(1));

function pairsSum(body: Body, range: number): DotSum {
  const [kept, pairs] = [body.local("v128"), body.local("v128")];
  const most = stepsInI16(range);
  let sum: Vector | undefined;
  let taken: Late | undefined;
  let pending = 0;
  const flushed = (): V128 => plus(sum, i32x4.dot_i16x8_s(pairs, ones));
  return {
    start: (off) => {
      sum = undefined;
      taken = off;
      pending = 0;
    },
    step: ([x], [quants]) => {
      if (pending === most) {
        kept.set(flushed());
        sum = kept;
        pending = 0;
      }
      const dot = i16x8.relaxed_dot_i8x16_i7x16_s(x, quants);
      pairs.set(pending === 0 ? dot : i16x8.add(pairs, dot));
      pending++;
    },
    end: () => less(flushed(), taken),
  };
}

function extendedSum(body: Body): DotSum {
  const [low, high, kept] = [0, 0, 0].map(() => body.local("v128"));
  let taken: Late | undefined;
  let first = true;
  const into = (to: Local<"v128">, product: V128): void => {
    const pairs = i32x4.extadd_pairwise_i16x8_s(product);
    to.set(first ? pairs : i32x4.add(to, pairs));
  };
  return {
    start: (off) => {
      taken = off;
      first = true;
    },
    step: ([x], [quants]) => {
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
      return less(i32x4.add(even, odd), taken);
    },
  };
}

/** 8-bit quants as 16 × high half + low half, both in 0 … 15. */
function halvesSum(body: Body, plan: QuantPlan): DotSum {
  const [low, high] = [bytesSum(body, plan), bytesSum(body, plan)];
  return {
    start: (taken) => {
      low.start(taken);
      high.start(undefined);
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

/** A vector of stored quants, 4 columns a row, as the dot wants it: one operand, or two where it takes half of it at a time. */
export function dotOperands(
  body: Body,
  { quants }: QuantPlan,
  { zero }: IntegerLayout,
  stored: V128,
): V128[] {
  switch (quants) {
    case "stored":
      return [stored];
    case "flip":
      return [v128.xor(stored, i8x16.const(Array(16).fill(-128)))];
    case "halves": {
      const kept = body.local(stored);
      return [lowHalf(kept), highHalf(kept)];
    }
    case "words": {
      const kept = body.local(stored);
      const columns = [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15];
      const sorted = body.local(i8x16.shuffle(kept, kept, columns));
      const zeros = i16x8.const(Array(8).fill(zero));
      return [i16x8.extend_low_i8x16_u(sorted), i16x8.extend_high_i8x16_u(sorted)].map((words) =>
        zero === 0 ? words : i16x8.sub(words, zeros),
      );
    }
    default:
      return quants satisfies never;
  }
}
