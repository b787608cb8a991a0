import { i16x8, i32, i32x4, i8x16, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Local, V128 } from "../../codegen/wasm/builder.ts";
import type { DotKind, WasmFeatures } from "../../codegen/wasm/features.ts";
import type { Digits } from "../../ops/index.ts";
import type { IntegerLayout } from "../../quant/compute-layout.ts";
import { internal, type Emit, type RowsKind } from "../program.ts";

type Vector = Local<"v128">;
/** A vector that is computed where it is first asked for: so it takes no register before. */
export type Late = () => Vector;

export function known(value: Vector): Late {
  return () => value;
}
export const late = (body: Body, value: () => V128): Late => {
  let kept: Vector | undefined;
  return () => (kept ??= body.local(value()));
};

/** How quants and x are handed to the dots of this machine. */
export interface QuantPlan {
  /** `words`: values of x are int16, both digits in one. */
  readonly dot: DotKind;
  /** Zero point that is still in what the dot multiplies, so that zero × Σx is to be taken off. */
  readonly zero: number;
  /** Of a value of x, or of one digit of it. */
  readonly valueBytes: 1 | 2;
  /** Digits that are multiplied by themselves, each a vector of a step. */
  readonly planes: Digits;
}

/** Words are for what bytes could not multiply at once; a panel has its zero taken off when it is unpacked. */
export function quantPlan(
  { range, zero }: IntegerLayout,
  { dot, wide }: WasmFeatures,
  digits: Digits,
  rows: RowsKind,
): QuantPlan {
  const bytes = { dot, zero, valueBytes: 1, planes: digits } as const;
  const left = rows === "many" ? 0 : zero;
  const words = { dot: "words", zero: left, valueBytes: 2, planes: 1 } as const;
  if (dot === "pairs" && digits === 2 && rows === "many") return words;
  if (dot === "words" || (range > 127 && wide === "words")) return words;
  if (range <= 127) return bytes;
  return { ...bytes, dot: "relaxed", zero: wide === "signed" ? zero - 128 : zero };
}

/** All that the code of a linear by integers depends on. */
export interface LinearSpec {
  readonly layout: IntegerLayout;
  readonly digits: Digits;
  readonly plan: QuantPlan;
  /** Whether V8 joins pairs of vectors. */
  readonly revectorize: boolean;
  /** Number of the memory that the weights lie in. */
  readonly memory: number;
  /** All of these, for the names of functions. */
  readonly mark: string;
}
/** A function of such a linear that is being built. */
export type LinearCode = LinearSpec & { readonly body: Body };

/**
 * Four running integer dots, one a lane (row): each step adds, for each row, the products of a few columns of x (the same int8 or
 * int16 values in every lane) with that row's quants. `taken` is taken off the sum, at the start or in the end.
 */
export interface DotSum {
  start(taken?: Late): void;
  /** `x`: a vector a digit. `quants`: one of what `dotOperands` gives. */
  step(x: readonly Vector[], quants: V128): void;
  /** Σ as four i32; ends the sum. */
  end(taken?: Late): V128;
}

/** A running sum of dots as this machine computes it best. */
export function dotSum({ body, plan, layout }: LinearCode): DotSum {
  const sum = (): DotSum => sums[plan.dot](body, layout.range);
  if (plan.planes === 1) return sum();
  const [high, low] = [sum(), sum()]; // x = high digit × 256 + low digit
  const both = [high, low];
  return {
    start: (taken) => both.forEach((sum) => sum.start(sum === low ? taken : undefined)),
    step: (x, quants) => both.forEach((sum, digit) => sum.step([x[digit]], quants)),
    end: (taken) => i32x4.add(i32x4.shl(high.end(), 8), low.end(taken)),
  };
}

const less = (sum: V128, taken?: Late): V128 => (taken ? i32x4.sub(sum, taken()) : sum);

function relaxedSum(body: Body): DotSum {
  const sum = body.local("v128");
  return {
    start: (taken) => sum.set(less(i32x4.const(0), taken)),
    step: ([x], quants) => sum.set(i32x4.relaxed_dot_i8x16_i7x16_add_s(x, quants, sum)),
    end: () => sum,
  };
}

function wordsSum(body: Body): DotSum & { with(x: V128, quants: V128): V128 } {
  const kept = body.local("v128");
  let sum: Vector | undefined; // the first product needs no addition
  const plus = (x: V128, quants: V128): V128 => {
    const dot = i32x4.dot_i16x8_s(x, quants);
    return sum ? i32x4.add(sum, dot) : dot;
  };
  return {
    start: () => (sum = undefined),
    with: plus,
    step: ([x], quants) => {
      kept.set(plus(x, quants));
      sum = kept;
    },
    end: (taken) => less(kept, taken),
  };
}

/** 2 × range × 128 a step fits i16 for so many steps: 8 for 4-bit quants, 1 for 7-bit ones. */
const stepsInI16 = (range: number): number => Math.max(1, Math.floor(32767 / (2 * range * 128)));

/** A product with it adds neighbours as `extadd_pairwise` does, for which V8 makes it anew each time. */
const ones = i16x8.const(1);

/** Sums of a few steps in i16 lanes are the words of a sum. */
function pairsSum(body: Body, range: number): DotSum {
  const [words, pairs] = [wordsSum(body), body.local("v128")];
  let pending = 0;
  return {
    start: (taken) => {
      words.start(taken);
      pending = 0;
    },
    step: ([x], quants) => {
      if (pending === stepsInI16(range)) {
        words.step([pairs], ones);
        pending = 0;
      }
      const dot = i16x8.relaxed_dot_i8x16_i7x16_s(x, quants);
      pairs.set(pending === 0 ? dot : i16x8.add(pairs, dot));
      pending++;
    },
    end: (taken) => less(words.with(pairs, ones), taken),
  };
}

/** By the dot. */
const sums = { relaxed: relaxedSum, pairs: pairsSum, words: wordsSum };

/**
 * A vector of stored quants, 4 columns a row, as the dot wants them: all at once, or as words the even columns, then the odd ones.
 */
export function dotOperands({ body, plan, layout }: LinearCode, stored: V128): V128[] {
  const off = layout.zero - plan.zero;
  if (plan.dot !== "words")
    // 128 less by the sign bit
    return [off === 0 ? stored : v128.xor(stored, i8x16.const(-128))];
  const kept = body.local(stored);
  const columns = [v128.and(kept, i16x8.const(0xff)), i16x8.shr_u(kept, 8)];
  if (off === 0) return columns;
  return columns.map((words) => i16x8.sub(words, i16x8.const(off)));
}

/**
 * Makes `count` values of x, whole blocks, words, where these are multiplied: both digits in one, of 4 columns first the even, then
 * the odd ones, as `dotOperands` has the quants.
 */
export const emitWords: Emit<LinearSpec> = internal("words", "high low words count", (code) => {
  const { body, p, digits } = code;
  const order = [0, 2, 1, 3, 4, 6, 5, 7].flatMap((word) => [2 * word, 2 * word + 1]);
  body.for(0, p.count, 8, (at) => {
    const [highs, lows] = [p.high, p.low].map((from) => v128.load8x8_s(i32.add(from, at)));
    const values = body.local(digits === 2 ? i16x8.add(i16x8.shl(highs, 8), lows) : highs);
    const sorted = i8x16.shuffle(values, values, order);
    body.emit(v128.store(i32.add(p.words, i32.shl(at, 1)), sorted));
  });
});
