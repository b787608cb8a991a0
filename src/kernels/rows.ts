import { f32, f32x4, i16x8, i32, i32x4, i8x16, v128 } from "../codegen/wasm/builder.ts";
import type { Body, Expr, Local, V128 } from "../codegen/wasm/builder.ts";
import { nearestI32x4, sigmoidF32x4 } from "../codegen/wasm/math.ts";
import { sameShape } from "../ir/dim.ts";
import { Capture, type Node } from "../ir/graph.ts";
import { activationGroup, largestDigit, leastRounded, placeholder } from "../ops/index.ts";
import { add, chunk, mean, mul, roundActivations, rsqrt, silu, square } from "../ops/index.ts";
import type { Digits } from "../ops/index.ts";
import type { Call, RowCount } from "../plan/plan.ts";
import { attrOf, columnsOf, inputOf, maxRowsOf, rowsOf } from "./kernel.ts";
import type { Kernel, Lowering, Use } from "./kernel.ts";
import { rowAt, rowCall, stepOf } from "./program.ts";
import type { Given, Named, RowParams, Sharing } from "./program.ts";

/** What a row can be made of. */
export type SourceName = "copy" | "rms-norm" | "silu-mul";

const x = placeholder("x");

/** silu(first half) × second half. */
export const siluMul = (both: Node): Node => mul(silu(chunk(both, 2, 0)), chunk(both, 2, 1));

/** What makes one row of another: rows of `x`, for the norm times `scale`. */
export const rowMeanings: Readonly<Record<SourceName, Node>> = {
  "rms-norm": mul(mul(x, rsqrt(add(mean(square(x)), new Capture("eps")))), placeholder("scale")),
  "silu-mul": siluMul(x),
  copy: x,
};

/** Whether rows can be made of what is found in the graph. */
export const acceptsRows = (use: Use): boolean =>
  !use.inputs.has("scale") ||
  sameShape(inputOf(use, "scale").shape, inputOf(use, "x").shape.slice(-1));

/** Rows that are made of others, f32 or rounded for an integer matmul, at `y`, which has place for `maxRows` of them. */
export interface MadeRows {
  readonly source: SourceName;
  readonly x: Given;
  readonly scale: Given;
  readonly eps: number;
  readonly columns: number;
  readonly rows: RowCount;
  /** f32 where absent. */
  readonly digits: Digits | undefined;
  readonly y: Given;
  readonly maxRows: number;
  readonly sharing: Sharing;
}

/** The rows that a use of a meaning asks for, where they are all of it. */
export function madeRows(use: Use, source: SourceName): MadeRows {
  const x = inputOf(use, "x");
  return {
    source,
    x,
    scale: use.inputs.get("scale") ?? 0,
    eps: use.attrs.has("eps") ? attrOf(use, "eps") : 0,
    columns: columnsOf(x) / (source === "silu-mul" ? 2 : 1),
    rows: rowsOf(x),
    digits: use.attrs.get("digits") as Digits | undefined,
    y: use.root,
    maxRows: maxRowsOf(x),
    sharing: "rows",
  };
}

/** The call that makes rows; a part of a row is a block of rounded values. */
export function rowsCall(at: Lowering, made: MadeRows): Call {
  const { source, x, scale, eps, columns, rows, digits, y } = made;
  const emitSource = (body: Body, row: Local<"i32">, p: RowParams<"x" | "scale">): Source => {
    const from = rowAt(body, p.x, row, 4 * columns * (source === "silu-mul" ? 2 : 1));
    return sources[source](body, made, from, p.scale);
  };
  const name = `${source} ${columns} ${eps || ""}`.trim();
  if (digits === undefined)
    return rowCall(at, name, { rows }, { x, scale, y }, (body, row, p) =>
      emitPlain(body, emitSource(body, row, p), rowAt(body, p.y, row, 4 * columns), columns),
    );
  const { lowOffset, recordOffset, recordRowBytes } = roundedPlace(columns, digits, made.maxRows);
  const work = { rows, parts: columns / activationGroup, sharing: made.sharing };
  const given = { x, scale, y, lowOffset, recordOffset };
  return rowCall(at, `${name} x${digits}`, work, given, (body, row, p, blocks) =>
    emitRounded(body, emitSource(body, row, p), digits, {
      ...blocks,
      digits: rowAt(body, p.y, row, columns),
      lowOffset: p.lowOffset,
      records: rowAt(body, i32.add(p.y, p.recordOffset), row, recordRowBytes),
    }),
  );
}

const rowKernel = (source: SourceName, meaning: Node): Kernel => ({
  meaning,
  accepts: acceptsRows,
  lower: (use, at) => {
    const call = rowsCall(at, madeRows(use, source));
    return [stepOf(call.program, rowsOf(use.root), call)];
  },
});

/** Row kernels, those that also round first. */
export const rowKernels: readonly Kernel[] = [
  ...(["rms-norm", "silu-mul", "copy"] as const).map((source) =>
    rowKernel(source, roundActivations(rowMeanings[source], new Capture("digits"))),
  ),
  ...(["rms-norm", "silu-mul"] as const).map((source) => rowKernel(source, rowMeanings[source])),
];

/** The values of columns 4i … 4i+3, given the byte offset of column 4i inside the row, plus `at`. */
type Source = (offset: Local<"i32">, at: number) => V128;
/** Makes values of the input row at `x`, for a norm times `scale`. */
type EmitSource = (body: Body, made: MadeRows, x: Local<"i32">, scale: Local<"i32">) => Source;

const sources: Readonly<Record<SourceName, EmitSource>> = {
  copy: (_, __, x) => loader(x),
  "rms-norm": (body, { columns, eps }, x, scale) => {
    const factor = body.local(f32x4.splat(emitInverseRms(body, x, columns, eps)));
    const [value, times] = [loader(x), loader(scale)];
    return (offset, at) => f32x4.mul(f32x4.mul(value(offset, at), factor), times(offset, at));
  },
  "silu-mul": (body, { columns }, x) => {
    const value = loader(x);
    return (offset, at) => {
      const gate = body.local(value(offset, at));
      const silu = f32x4.mul(gate, sigmoidF32x4(body, gate));
      return f32x4.mul(silu, value(offset, 4 * columns + at));
    };
  },
};
function loader(base: Local<"i32">): Source {
  return (offset, at) => v128.load(i32.add(base, offset), at);
}

/** 1 / √(mean(x²) + eps): four lanes of sums, added in a fixed tree; columns beyond a multiple of 4 go to lane 0. */
function emitInverseRms(body: Body, x: Local<"i32">, columns: number, eps: number): Expr<"f32"> {
  const sums = body.local(f32x4.const(0));
  const whole = columns - (columns % 4);
  const addSquare = (value: V128): void => {
    const four = body.local(value);
    sums.set(f32x4.add(sums, f32x4.mul(four, four)));
  };
  body.for(0, whole * 4, 16, (offset) => addSquare(v128.load(i32.add(x, offset))));
  for (let at = whole; at < columns; at++) addSquare(v128.load32_zero(x, 4 * at));
  const mean = f32.div(horizontal(body, sums, f32.add), f32.const(columns));
  return f32.div(f32.const(1), f32.sqrt(f32.add(mean, f32.const(eps))));
}

/** (lane 0 ∘ lane 1) ∘ (lane 2 ∘ lane 3). */
export function horizontal(body: Body, vector: V128, join: typeof f32.add): Expr<"f32"> {
  const kept = body.local(vector);
  const lane = (at: number): Expr<"f32"> => f32x4.extract_lane(kept, at);
  return join(join(lane(0), lane(1)), join(lane(2), lane(3)));
}

/** Writes the row as f32. */
function emitPlain(body: Body, source: Source, y: Local<"i32">, columns: number): void {
  const whole = columns - (columns % 4);
  body.for(0, whole * 4, 16, (offset) =>
    body.emit(v128.store(i32.add(y, offset), source(offset, 0))),
  );
  if (whole === columns) return;
  const rest = body.local(source(body.local(i32.const(whole * 4)), 0));
  for (let lane = 0; lane < columns - whole; lane++)
    body.emit(v128.store32_lane(y, rest, lane, 4 * (whole + lane)));
}

/**
 * How rounded activations lie in memory, for up to `maxRows` rows: the int8 digits, row after row (with two digits first all
 * high ones, then all low ones), then for each row and block of 32 values a record of 16 bytes:
 *
 *   f32 scale · i32 sum of the 32 values · i32 sum of the first 16 · (unused)
 *
 * With two digits a value is high × 256 + low, low in [−128, 127].
 */
type RoundedPlace = Record<"lowOffset" | "recordOffset" | "recordRowBytes" | "bytes", number>;
export const recordBytes = 16;
export const record = { scale: 0, sum: 4, sumFirst: 8 } as const;

export function roundedPlace(columns: number, digits: Digits, maxRows: number): RoundedPlace {
  const lowOffset = maxRows * columns;
  const recordOffset = digits * lowOffset;
  const recordRowBytes = (columns / activationGroup) * recordBytes;
  const bytes = recordOffset + maxRows * recordRowBytes;
  return { lowOffset, recordOffset, recordRowBytes, bytes };
}

/** Blocks `begin` … `end` − 1 of a row, and where its digits and records lie. */
type RoundedBlocks = Named<"begin end digits lowOffset records">;

/** Rounds blocks of 32 values as `roundActivations` defines it, and writes digits and records. */
function emitRounded(body: Body, source: Source, count: Digits, blocks: RoundedBlocks): void {
  const { begin, end, digits, lowOffset, records } = blocks;
  digits.set(i32.add(digits, i32.shl(begin, 5)));
  records.set(i32.add(records, i32.mul(begin, recordBytes)));
  body.for(i32.shl(begin, 7), i32.shl(end, 7), 128, (offset) => {
    const values = Array.from({ length: 8 }, (_, i) => body.local(source(offset, 16 * i)));
    const { scale, factor } = roundingOf(body, values, largestDigit[count]);
    const integers: V128[] = values.map((value) => body.local(roundBy(value, factor)));
    const first = body.local(integers.slice(0, 4).reduce(i32x4.add));
    const all = body.local(i32x4.add(first, integers.slice(4).reduce(i32x4.add)));
    body.emit(f32.store(records, scale, record.scale));
    body.emit(i32.store(records, laneSum(all), record.sum));
    body.emit(i32.store(records, laneSum(first), record.sumFirst));
    if (count === 1) storeBytes(body, integers, digits);
    else {
      const half = i32x4.splat(i32.const(128));
      const highs = integers.map((value) => body.local(i32x4.shr_s(i32x4.add(value, half), 8)));
      const lows = integers.map((value, i) => i32x4.sub(value, i32x4.shl(highs[i], 8)));
      storeBytes(body, highs, digits);
      storeBytes(body, lows, i32.add(digits, lowOffset));
    }
    digits.set(i32.add(digits, 32));
    records.set(i32.add(records, recordBytes));
  });
}

/** Stores 8 vectors of 4 integers as int8. */
function storeBytes(body: Body, quads: readonly V128[], at: Expr<"i32">): void {
  const pairs = [0, 2, 4, 6].map((i) => i16x8.narrow_i32x4_s(quads[i], quads[i + 1]));
  body.emit(v128.store(at, i8x16.narrow_i16x8_s(pairs[0], pairs[1])));
  body.emit(v128.store(at, i8x16.narrow_i16x8_s(pairs[2], pairs[3]), 16));
}

/** The scale of rounded values, largest |value| / levels, and its inverse in all lanes, 0 where all are next to nothing. */
type Rounding = { readonly scale: Expr<"f32">; readonly factor: V128 };
export function roundingOf(body: Body, values: readonly V128[], levels: number): Rounding {
  // As integers they are in the same order, with NaN the largest.
  const most = values.map((value) => f32x4.abs(value)).reduce(i32x4.max_s);
  const largest = body.local(horizontal(body, most, f32.max));
  const inverse = body.local(f32.const(0));
  body.if(f32.ge(largest, leastRounded), () => inverse.set(f32.div(f32.const(levels), largest)));
  const factor = body.local(f32x4.splat(inverse));
  return { scale: f32.div(largest, f32.const(levels)), factor };
}
export const roundBy = (value: V128, factor: V128): V128 => nearestI32x4(f32x4.mul(value, factor));

const laneSum = (vector: Local<"v128">): Expr<"i32"> => {
  const lane = (at: number): Expr<"i32"> => i32x4.extract_lane(vector, at);
  return i32.add(i32.add(lane(0), lane(1)), i32.add(lane(2), lane(3)));
};
