import { f32x4, i16x8, i32, i32x4, i8x16, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local, V128 } from "../../codegen/wasm/builder.ts";
import { f16ToF32x4 } from "../../codegen/wasm/math.ts";
import { blockBytes, blockColumns, groupRows } from "../../quant/compute-layout.ts";
import { superColumns, type IntegerLayout } from "../../quant/compute-layout.ts";
import type { ProgramNames } from "../program.ts";
import { record, recordBytes } from "../rows.ts";
import { dotOperands, dotSum, known, late, type Late, type LinearCode } from "./dot.ts";

/** What all programs of a linear are given. */
export type LinearParam =
  ProgramNames<"x lowOffset recordOffset weight groupBytes y yStride residual outputs columns rows">;

/**
 * The arithmetic of one block (32 columns) of one vector (4 rows) and one token. mat-vec and mat-mul both use it, block after
 * block in order, so their results are the same bits:
 *
 *   integers  Σ x·q for each sub-block, exact
 *   f32       sum += (dx × scale) × integers;  sum += minimum × (dx × Σx)
 */
type Vector = Local<"v128">;

/**
 * A token at one of its blocks: what all rows share. Late values are those of the one block whose code a function has, in its
 * loop.
 */
export interface Token {
  /** 4 bytes of the block in each lane, a vector a digit that is multiplied by itself. */
  x(offset: number): Vector[];
  toNextBlock(): void;
  readonly scale: Late;
  /** i32 Σx of the block, or of its halves of 16. */
  readonly sums: readonly Late[];
  /** zero × Σx, to be taken off the integer sums; absent where the zero is 0. */
  readonly taken: readonly (Late | undefined)[];
  /** dx × Σx of the block, where a minimum is added. */
  readonly scaledSum: Late;
}

/** A token by where its next block lies: its digits, or its words at the first place alone, and its record. */
export function tokenAt(code: LinearCode, [high, low, records]: readonly Local<"i32">[]): Token {
  const { body, layout, plan } = code;
  const digits = [high, low].slice(0, plan.planes);
  const load = (offset: number): Late => late(body, () => v128.load32_splat(records, offset));
  const [scale, total, first] = [load(record.scale), load(record.sum), load(record.sumFirst)];
  const second = late(body, () => i32x4.sub(total(), first()));
  const sums = layout.subs === 2 ? [first, second] : [total];
  const taken = (sum: Late): Late => late(body, () => i32x4.shl(sum(), Math.log2(plan.zero)));
  return {
    x: (offset) => digits.map((digit) => body.local(v128.load32_splat(digit, offset))),
    toNextBlock() {
      for (const digit of digits) digit.set(i32.add(digit, blockColumns * plan.valueBytes));
      records.set(i32.add(records, recordBytes));
    },
    scale,
    sums,
    taken: sums.map((sum) => (plan.zero === 0 ? undefined : taken(sum))),
    scaledSum: late(body, () => f32x4.mul(scale(), f32x4.convert_i32x4_s(total()))),
  };
}

/**
 * Of one vector of a block: scale [, minimum], f32; where the layout has halves of 16 columns, then their i32 factors: two
 * sub-scales [, two sub-minimums].
 */
export type Coefficients = readonly Late[];
export const coefficientCount = ({ minimum, subs }: IntegerLayout): number =>
  (minimum ? 2 : 1) * (subs === 2 ? 3 : 1);

/** One vector and one token. */
export interface BlockSum {
  start(token: Token): void;
  /** x holds the values of the next columns, a vector a digit, high digit first. */
  step(x: readonly Vector[], quants: V128): void;
  /** Ends the first half of 16 columns where the layout has halves; called in the middle of the steps. */
  middle(token: Token, coefficients: Coefficients): void;
  /** Adds the block to the f32 sum. */
  end(token: Token, coefficients: Coefficients): void;
}

/** Integer sums of a block, one for the block or one for each half, and `sum`, of all blocks. */
export function blockSum(code: LinearCode, sum: Vector): BlockSum {
  const { body, layout, digits } = code;
  const [dots, total] = [dotSum(code), body.local("v128")];
  const toF32 = f32x4.convert_i32x4_s;
  // Two digits: a half is below 2^31 (Q6_K: 16 × 32 × 32639 × 128), both together may not be.
  const halvesFit = digits === 1;
  /** Sub-scales, then sub-minimums. */
  const halvesOf = (all: Coefficients): Coefficients => all.slice(layout.minimum ? 2 : 1);
  /** Σ x·q of the block, times the sub-scales where it has halves, as f32. */
  const integers = ({ taken }: Token, [, subScale]: Coefficients): V128 => {
    const last = dots.end(taken.at(-1));
    if (subScale === undefined) return toF32(last);
    const second = i32x4.mul(last, subScale());
    return halvesFit ? toF32(i32x4.add(total, second)) : f32x4.add(total, toF32(second));
  };
  /** dx × Σx, halves of 16 columns weighted by their sub-minimums where the layout has them. */
  const weighted = (token: Token, [, , ...subMinimums]: Coefficients): V128 => {
    if (subMinimums.length === 0) return token.scaledSum();
    const [first, second] = token.sums.map((sum, half) => i32x4.mul(sum(), subMinimums[half]()));
    return f32x4.mul(token.scale(), toF32(i32x4.add(first, second)));
  };
  return {
    start: ({ taken }) => dots.start(taken[0]),
    step: (x, quants) => dots.step(x, quants),
    middle({ taken }, coefficients) {
      const [subScale] = halvesOf(coefficients);
      if (subScale === undefined) return;
      const first = i32x4.mul(dots.end(taken[0]), subScale());
      total.set(halvesFit ? first : toF32(first));
      dots.start(taken[1]);
    },
    end(token, coefficients) {
      const [scale, minimum] = coefficients;
      const halves = halvesOf(coefficients);
      const scaled = f32x4.mul(f32x4.mul(token.scale(), scale()), integers(token, halves));
      sum.set(f32x4.add(sum, scaled));
      if (layout.minimum) sum.set(f32x4.add(sum, f32x4.mul(minimum(), weighted(token, halves))));
    },
  };
}

/** A vector for each of the rows 0–3 and 4–7 of a group. */
type Pair = readonly Vector[];

/** Loads the coefficients of a block of each weight: [weight][vector]. */
export type Load = () => Coefficients[][];

/** Runs `each` for every block of the groups at `weights`, which it moves on. */
export function forBlocks(
  code: LinearCode,
  blocks: Local<"i32">,
  weights: readonly Local<"i32">[],
  each: (load: Load) => void,
): void {
  const { body, layout } = code;
  const { superHeader, block } = blockBytes(layout);
  const blocksOfSuper = superColumns / blockColumns;
  const move = (bytes: number): void => {
    for (const weight of weights) weight.set(i32.add(weight, bytes));
  };
  const run = (count: Expr<"i32">, supers?: readonly Pair[][]): void =>
    body.for(0, count, 1, () => {
      each(() => weights.map((at, n) => loadCoefficients(code, at, supers?.[n])));
      move(block);
    });
  if (layout.scales === "block") return run(blocks);
  body.for(0, i32.div_u(blocks, blocksOfSuper), 1, () => {
    const supers = weights.map((at) => loadScales(code, at));
    move(superHeader);
    run(i32.const(blocksOfSuper), supers);
  });
}

/** 8 i16 as two vectors of i32. */
export const widened = (words: Vector): V128[] => [
  i32x4.extend_low_i16x8_s(words),
  i32x4.extend_high_i16x8_s(words),
];

/** f16 values of the 8 rows, and then perhaps of their minimums, as f32. */
const loadScales = ({ body, layout, memory }: LinearCode, at: Expr<"i32">): Pair[] =>
  (layout.minimum ? [0, 16] : [0]).map((offset) => {
    const halves = widened(body.local(v128.load(at, offset, memory)));
    return halves.map((half) => body.local(f16ToF32x4(half)));
  });

/** The coefficients of vectors A and B of the block at `at`; its scales are its own unless they are those of eight blocks. */
function loadCoefficients(code: LinearCode, at: Expr<"i32">, scales = loadScales(code, at)) {
  const { body, memory } = code;
  const { subs, minimum } = code.layout;
  const factors = Array.from({ length: subs * (minimum ? 2 : 1) }, (_, n) => {
    const words = body.local(v128.load8x8_s(at, 8 * n, memory));
    return widened(words).map((factor) => body.local(factor));
  });
  return [0, 1].map((v) => {
    const own =
      subs === 1
        ? scales.map((d, n) => body.local(f32x4.mul(d[v], f32x4.convert_i32x4_s(factors[n][v]))))
        : [...scales, ...factors].map((pair) => pair[v]);
    return own.map(known);
  });
}

/** Quants of columns 8·pair … 8·pair + 7 of the block at `at`, as the dots of the next 2 or 4 steps want them: [step][vector]. */
export const loadQuants = (code: LinearCode, at: Expr<"i32">, pair: number): V128[][] =>
  loadStored(code, at, pair).flatMap((vectors) => {
    const [a, b] = vectors.map((stored) => dotOperands(code, stored));
    return a.map((operand, step) => [operand, b[step]]);
  });

const bits = (vector: V128, mask: number): V128 => v128.and(vector, i8x16.const(mask));

/** Quants of columns 8·pair … + 3 and the next four, as they are stored: [first, second][vector]. */
function loadStored(code: LinearCode, at: Expr<"i32">, pair: number): V128[][] {
  const { body, layout, memory } = code;
  const { header } = blockBytes(layout);
  const load = (part: number): V128[] =>
    [0, 16].map((vector) => v128.load(at, header + 32 * part + vector, memory));
  switch (layout.bits) {
    case 4: {
      const packed = load(pair).map((vector) => body.local(vector));
      const nibbles = [packed, packed.map((vector) => i16x8.shr_u(vector, 4))];
      return nibbles.map((vectors) => vectors.map((vector) => bits(vector, 15)));
    }
    case 6: {
      const parts = [0, 1, 2].map((k) => load(3 * (pair >> 1) + k));
      const low = parts.map((vectors) => vectors.map((vector) => bits(vector, 63)));
      if (pair % 2 === 0) return low.slice(0, 2);
      return [low[2], [0, 1].map((v) => aboveSix(parts.map((vectors) => vectors[v])))];
    }
    case 8:
      return [load(2 * pair), load(2 * pair + 1)];
    default:
      return layout.bits satisfies never;
  }
}

/** The value of 6 bits that is spread over the highest two of three bytes, lowest bits first. */
const aboveSix = (bytes: readonly V128[]): V128 =>
  bytes.map((part, k) => bits(i16x8.shr_u(part, 6 - 2 * k), 3 << (2 * k))).reduce(v128.or);

/** How far behind y the values to add lie; no two values share memory, so that 0 can say that there are none. */
export function addedTo(body: Body, y: Local<"i32">, residual: Local<"i32">): Local<"i32"> {
  const added = body.local(i32.const(0));
  body.if(residual, () => added.set(i32.sub(residual, y)));
  return added;
}

/** Where sums of rows go: as far as `yEnd`; what is added to them lies `added` bytes behind y, or is nothing where that is 0. */
type Place = Readonly<Record<"y" | "yEnd" | "added", Expr<"i32">>>;

/** Writes the sums of 8 rows. */
export function storeGroup(body: Body, sums: readonly Vector[], { y, yEnd, added }: Place): void {
  const totals = sums.map((sum) => body.local(sum));
  const from = i32.add(y, added);
  body.if(added, () =>
    totals.forEach((total, v) => total.set(f32x4.add(v128.load(from, 16 * v), total))),
  );
  const left = body.local(i32.sub(yEnd, y));
  body.if(
    i32.ge_s(left, 4 * groupRows),
    () => totals.forEach((total, v) => body.emit(v128.store(y, total, 16 * v))),
    () => {
      for (let row = 0; row < groupRows; row++)
        body.if(i32.gt_s(left, 4 * row), () =>
          body.emit(v128.store32_lane(y, totals[row >> 2], row & 3, 4 * row)),
        );
    },
  );
}
