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

const zeros = (): V128 => i32x4.const([0, 0, 0, 0]);

/**
 * Four running integer dots, one a lane (row): each step adds, for each row, the products of a few columns of x (the same int8 or
 * int16 values in every lane) with that row's quants.
 */
export interface DotSum {
  /** `taken` is taken off the sum, at the start or in the end; nothing where it is absent. */
  start(taken: Late | undefined): void;
  /** `x`: a vector a digit. `quants`: one of what `dotOperands` gives. */
  step(x: readonly Vector[], quants: V128): void;
  /** Σ as four i32; ends the sum. */
  end(): V128;
}

/** How a layout's quants are handed to the dots of this machine. */
export interface QuantPlan {
  /** `words`: values of x are int16, both digits in one. */
  readonly dot: DotKind;
  /** Whether the dot multiplies quant − 128, made by the sign bit. */
  readonly flips: boolean;
  /** Zero point that is still in what the dot multiplies, so that zero × Σx is to be taken off. */
  readonly zero: number;
  /** Largest absolute quant in a dot, which bounds the i16 sums of `pairs`. */
  readonly range: number;
}

/** How many rows of x there are: weights are unpacked in registers, once a row, or into panels, once for all rows. */
export type RowsKind = "few" | "many";

/** Words are for what bytes could not multiply at once; a panel has its zero taken off when it is unpacked. */
export function quantPlan(
  layout: IntegerLayout,
  features: WasmFeatures,
  digits: Digits,
  rows: RowsKind,
): QuantPlan {
  const { range } = layout;
  const plan = { dot: features.dot, flips: false, zero: layout.zero, range };
  const words = { ...plan, dot: "words", zero: rows === "many" ? 0 : layout.zero } as const;
  if (plan.dot === "pairs" && digits === 2 && rows === "many") return words;
  if (plan.dot === "words" || (range > 127 && features.wide === "words")) return words;
  if (range <= 127) return plan;
  const isSigned = features.wide === "signed";
  return { ...plan, dot: "relaxed", flips: isSigned, zero: layout.zero - (isSigned ? 128 : 0) };
}

/** The shape of x that a plan multiplies. */
export interface InputShape {
  /** Of one digit. */
  readonly valueBytes: 1 | 2;
  /** Digits that are multiplied by themselves, each a vector of a step. */
  readonly planes: Digits;
}
export const inputShape = ({ dot }: QuantPlan, digits: Digits): InputShape =>
  dot === "words" ? { valueBytes: 2, planes: 1 } : { valueBytes: 1, planes: digits };

/** A running sum of dots as this machine computes it best. */
export function dotSum(body: Body, plan: QuantPlan, digits: Digits): DotSum {
  const { planes } = inputShape(plan, digits);
  return planes === 2 ? digitsSum(body, plan) : digitSum(body, plan);
}

function digitSum(body: Body, plan: QuantPlan): DotSum {
  switch (plan.dot) {
    case "relaxed":
      return relaxedSum(body);
    case "pairs":
      return pairsSum(body, plan.range);
    case "words":
      return wordsSum(body);
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
    step: ([highs, lows], quants) => {
      high.step([highs], quants);
      low.step([lows], quants);
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
    step: ([x], quants) => {
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
    step: ([x], quants) => sum.set(i32x4.relaxed_dot_i8x16_i7x16_add_s(x, quants, sum)),
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
    step: ([x], quants) => {
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

/**
 * A vector of stored quants, 4 columns a row, as the dot wants them: all at once, or as words the even columns, then the odd ones.
 */
export function dotOperands(
  body: Body,
  { dot, flips, zero }: QuantPlan,
  layout: IntegerLayout,
  stored: V128,
): V128[] {
  if (flips) return [v128.xor(stored, i8x16.const(Array(16).fill(-128)))];
  if (dot !== "words") return [stored];
  const kept = body.local(stored);
  const off = layout.zero - zero;
  const columns = [v128.and(kept, i16x8.const(Array(8).fill(0xff))), i16x8.shr_u(kept, 8)];
  return columns.map((words) =>
    off === 0 ? words : i16x8.sub(words, i16x8.const(Array(8).fill(off))),
  );
}
