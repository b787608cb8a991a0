import { f32x4, i32, i32x4, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local } from "../../codegen/wasm/builder.ts";
import { f16ToF32x4 } from "../../codegen/wasm/math.ts";
import type { WasmFeatures } from "../../codegen/wasm/features.ts";
import type { Digits } from "../../ops/index.ts";
import { record } from "./activations.ts";
import {
  aboveSix,
  dotOperands,
  dotSum,
  highHalf,
  late,
  lowHalf,
  lowSix,
  quantPlan,
  type DotSum,
  type Late,
  type QuantPlan,
  type RowsKind,
} from "./dot.ts";
import {
  blockBytes,
  blockColumns,
  groupRows,
  superColumns,
  type IntegerLayout,
} from "../../quant/compute-layout.ts";

/**
 * The arithmetic of one block (32 columns) of one vector (4 rows) and one token. mat-vec and mat-mul both use it, block after
 * block in order, so their results are the same bits:
 *
 *   integers  Σ x·q for each sub-block, exact
 *   f32       sum += (dx × scale) × integers;  sum += minimum × (dx × Σx)
 */
type V128 = Expr<"v128">;
type Vector = Local<"v128">;

export interface LinearSpec {
  readonly layout: IntegerLayout;
  readonly digits: Digits;
  readonly features: WasmFeatures;
  /** Number of the memory that the weights lie in. */
  readonly memory: number;
  readonly rows: RowsKind;
}
export const planOf = ({ layout, features, digits, rows }: LinearSpec): QuantPlan =>
  quantPlan(layout, features, digits, rows);

/** Scales of one vector of a block, as f32 and i32 lanes. */
export interface Coefficients {
  readonly scale: Late;
  readonly minimum: Late | undefined;
  /** i32 factors of the two halves of 16 columns, where the layout has them. */
  readonly subScales: readonly Late[];
  readonly subMinimums: readonly Late[];
}

/** Values of one token and block that all rows share. */
export interface TokenBlock {
  readonly scale: Late;
  /** i32 Σx of the block, or of its halves of 16. */
  readonly sums: readonly Late[];
  /** zero × Σx, to be taken off the integer sums; absent where the zero is 0. */
  readonly taken: readonly (Late | undefined)[];
  /** dx × Σx of the block, where a minimum is added. */
  readonly scaledSum: Late;
}

/** The record of a token's block. */
export function loadToken(body: Body, spec: LinearSpec, records: Expr<"i32">): TokenBlock {
  const { zero } = planOf(spec);
  const load = (offset: number): Late => late(body, () => v128.load32_splat(records, offset));
  const [scale, total] = [load(record.scale), load(record.sum)];
  const first = load(record.sumFirst);
  const second = late(body, () => i32x4.sub(total(), first()));
  const sums = spec.layout.subs === 2 ? [first, second] : [total];
  const taken = (sum: Late): Late => late(body, () => i32x4.shl(sum(), Math.log2(zero)));
  return {
    scale,
    sums,
    taken: sums.map((sum) => (zero === 0 ? undefined : taken(sum))),
    scaledSum: late(body, () => f32x4.mul(scale(), f32x4.convert_i32x4_s(total()))),
  };
}

/** Integer sums of one vector and one token over a block: one for the block, or one for each half. */
export class BlockSum {
  readonly #dots: DotSum;
  readonly #total: Vector;
  /** Two digits: a half is below 2^31 (Q6_K: 16 × 32 × 32639 × 128), both together may not be. */
  readonly #halvesFit: boolean;

  constructor(body: Body, spec: LinearSpec) {
    this.#dots = dotSum(body, planOf(spec), spec.digits);
    this.#total = body.local("v128");
    this.#halvesFit = spec.digits === 1;
  }

  start({ taken }: TokenBlock): void {
    this.#dots.start(taken[0]);
  }

  /** x holds the values of the next columns, a vector a digit, high digit first. */
  step(x: readonly Vector[], quants: V128): void {
    this.#dots.step(x, quants);
  }

  /** Ends the first half of 16 columns where the layout has halves; called in the middle of the steps. */
  middle({ taken }: TokenBlock, { subScales }: Coefficients): void {
    if (subScales.length < 2) return;
    const scaled = i32x4.mul(this.#dots.end(), subScales[0]());
    this.#total.set(this.#halvesFit ? scaled : f32x4.convert_i32x4_s(scaled));
    this.#dots.start(taken[1]);
  }

  /** Σ x·q of the block, times the sub-scales where it has halves, as f32. */
  #block(subScales: readonly Late[]): V128 {
    if (subScales.length < 2) return f32x4.convert_i32x4_s(this.#dots.end());
    const second = i32x4.mul(this.#dots.end(), subScales[1]());
    if (this.#halvesFit) return f32x4.convert_i32x4_s(i32x4.add(this.#total, second));
    return f32x4.add(this.#total, f32x4.convert_i32x4_s(second));
  }

  /** Adds the block to the f32 sum. */
  end(sum: Vector, token: TokenBlock, coefficients: Coefficients): void {
    const { scale, minimum, subScales, subMinimums } = coefficients;
    const scaled = f32x4.mul(f32x4.mul(token.scale(), scale()), this.#block(subScales));
    sum.set(f32x4.add(sum, scaled));
    if (minimum !== undefined)
      sum.set(f32x4.add(sum, f32x4.mul(minimum(), weightedSum(token, subMinimums))));
  }
}

/** dx × Σx, halves of 16 columns weighted by their sub-minimums where the layout has them. */
function weightedSum(token: TokenBlock, subMinimums: readonly Late[]): V128 {
  if (subMinimums.length < 2) return token.scaledSum();
  const [first, second] = token.sums.map((sum, half) => i32x4.mul(sum(), subMinimums[half]()));
  return f32x4.mul(token.scale(), f32x4.convert_i32x4_s(i32x4.add(first, second)));
}

/** d and −dmin of the vectors A and B of a `super` group, as f32: [d or dmin][vector]; none where each block has scales. */
export type Supers = readonly (readonly Vector[])[];

const blocksOfSuper = superColumns / blockColumns;

/** Runs `each` for every block of the groups at `weights`, which it moves on. */
export function forBlocks(
  body: Body,
  { layout, memory }: LinearSpec,
  blocks: Local<"i32">,
  weights: readonly Local<"i32">[],
  each: (supers: readonly Supers[]) => void,
): void {
  const { superHeader, block } = blockBytes(layout);
  const move = (bytes: number): void => {
    for (const weight of weights) weight.set(i32.add(weight, bytes));
  };
  const run = (count: Expr<"i32">, supers: readonly Supers[]): void =>
    body.for(0, count, 1, () => {
      each(supers);
      move(block);
    });
  if (layout.scales === "block")
    return run(
      blocks,
      weights.map(() => []),
    );
  const headers = layout.minimum ? [0, 16] : [0];
  body.for(0, i32.div_u(blocks, blocksOfSuper), 1, () => {
    const supers = weights.map((at) =>
      headers.map((offset) => loadF16Pair(body, at, offset, memory)),
    );
    move(superHeader);
    run(i32.const(blocksOfSuper), supers);
  });
}

/** Writes the sums of 8 rows as far as `yEnd`; what is added to them lies `added` bytes behind y, or is nothing where that is 0. */
export function storeGroup(
  body: Body,
  sums: readonly Vector[],
  y: Local<"i32">,
  yEnd: Expr<"i32">,
  added: Local<"i32">,
): void {
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
          body.emit(v128.store32_lane(y, totals[row >> 2], 4 * row, row & 3)),
        );
    },
  );
}

/** 8 f16 values as two f32 vectors, rows 0–3 and 4–7. */
function loadF16Pair(body: Body, at: Expr<"i32">, offset: number, memory: number): Vector[] {
  const bits = body.local(v128.load(at, offset, memory));
  return [
    body.local(f16ToF32x4(i32x4.extend_low_i16x8_s(bits))),
    body.local(f16ToF32x4(i32x4.extend_high_i16x8_s(bits))),
  ];
}

/** 8 bytes as two i32 vectors. */
function loadI8Pair(body: Body, at: Expr<"i32">, offset: number, memory: number): Vector[] {
  const wide = body.local(v128.load8x8_s(at, offset, memory));
  return [body.local(i32x4.extend_low_i16x8_s(wide)), body.local(i32x4.extend_high_i16x8_s(wide))];
}

/** The coefficients of vectors A and B of the block at `at`. */
export function loadCoefficients(
  body: Body,
  { layout, memory }: LinearSpec,
  at: Expr<"i32">,
  supers: Supers,
): readonly Coefficients[] {
  const given =
    (value: Vector): Late =>
    () =>
      value;
  if (layout.scales === "block") {
    const scales = loadF16Pair(body, at, 0, memory);
    const minimums = layout.minimum ? loadF16Pair(body, at, 16, memory) : [];
    return [0, 1].map((v) => ({
      scale: given(scales[v]),
      minimum: layout.minimum ? given(minimums[v]) : undefined,
      subScales: [],
      subMinimums: [],
    }));
  }
  const subs = Array.from({ length: layout.subs }, (_, h) => loadI8Pair(body, at, 8 * h, memory));
  const subMinimums = layout.minimum
    ? Array.from({ length: layout.subs }, (_, h) =>
        loadI8Pair(body, at, 8 * (layout.subs + h), memory),
      )
    : [];
  const product = (d: Vector, sub: Vector): Late =>
    given(body.local(f32x4.mul(d, f32x4.convert_i32x4_s(sub))));
  return [0, 1].map((v) =>
    layout.subs === 1
      ? {
          scale: product(supers[0][v], subs[0][v]),
          minimum: layout.minimum ? product(supers[1][v], subMinimums[0][v]) : undefined,
          subScales: [],
          subMinimums: [],
        }
      : {
          scale: given(supers[0][v]),
          minimum: layout.minimum ? given(supers[1][v]) : undefined,
          subScales: subs.map((half) => given(half[v])),
          subMinimums: subMinimums.map((half) => given(half[v])),
        },
  );
}

/** Quants of columns 8·pair … 8·pair + 7 of the block at `at`, as the dots of the next 2 or 4 steps want them: [step][vector]. */
export function loadQuants(
  body: Body,
  spec: LinearSpec,
  at: Expr<"i32">,
  pair: number,
): readonly (readonly V128[])[] {
  const plan = planOf(spec);
  return loadStored(body, spec, at, pair).flatMap((vectors) => {
    const [a, b] = vectors.map((stored) => dotOperands(body, plan, spec.layout, stored));
    return a.map((operand, step) => [operand, b[step]]);
  });
}

/** Quants of columns 8·pair … + 3 and the next four, as they are stored: [first, second][vector]. */
function loadStored(
  body: Body,
  { layout, memory }: LinearSpec,
  at: Expr<"i32">,
  pair: number,
): readonly (readonly V128[])[] {
  const { header } = blockBytes(layout);
  const load = (part: number, v: number): V128 =>
    v128.load(at, header + 32 * part + 16 * v, memory);
  const both = (of: (v: number) => V128): V128[] => [0, 1].map(of);
  switch (layout.bits) {
    case 4: {
      const packed = both((v) => load(pair, v)).map((vector) => body.local(vector));
      return [lowHalf, highHalf].map((half) => packed.map(half));
    }
    case 6: {
      const parts = [0, 1, 2].map((part) => 3 * (pair >> 1) + part);
      const low = (part: number) => both((v) => lowSix(load(parts[part], v)));
      if (pair % 2 === 0) return [low(0), low(1)];
      return [low(2), both((v) => aboveSix(parts.map((part) => load(part, v))))];
    }
    case 8:
      return [2 * pair, 2 * pair + 1].map((part) => both((v) => load(part, v)));
    default:
      return layout.bits satisfies never;
  }
}

/** How far behind y the values to add lie; no two values share memory, so that 0 can say that there are none. */
export function addedTo(body: Body, y: Local<"i32">, residual: Local<"i32">): Local<"i32"> {
  const added = body.local(i32.const(0));
  body.if(residual, () => added.set(i32.sub(residual, y)));
  return added;
}

/** thread's share of `count` things: [begin, end). */
export function share(
  body: Body,
  count: Expr<"i32">,
  thread: Expr<"i32">,
  threads: Expr<"i32">,
): { begin: Local<"i32">; end: Local<"i32"> } {
  const begin = body.local(i32.div_u(i32.mul(count, thread), threads));
  const end = body.local(i32.div_u(i32.mul(count, i32.add(thread, 1)), threads));
  return { begin, end };
}
