import { f32, f32x4, i16x8, i32, i32x4, i8x16, v128 } from "../codegen/wasm/builder.ts";
import type { Body, Expr, Local, WasmModule } from "../codegen/wasm/builder.ts";
import { sigmoidF32x4 } from "../codegen/wasm/math.ts";
import { largestDigit, leastRounded, type Digits } from "../ops/index.ts";
import { record, recordBytes, roundedPlace } from "./linear/activations.ts";
import { share } from "./linear/block.ts";

/**
 * Kernels that make one output row of one input row: a source of the row's values, 4 at a time, and where they go (f32, or
 * rounded for an integer matmul).
 */
export interface RowSpec {
  readonly columns: number;
  readonly source: "copy" | "rms-norm" | "silu-mul";
  /** Digits of the rounded output; absent for f32. */
  readonly digits?: Digits;
  readonly eps?: number;
  /** Rows that the rounded output has room for. */
  readonly maxRows: number;
}

const rowParams = {
  x: "i32",
  weight: "i32",
  y: "i32",
  rows: "i32",
  thread: "i32",
  threads: "i32",
  scratch: "i32",
} as const;

type V128 = Expr<"v128">;
/** The values of columns 4i … 4i+3, given the byte offset of column 4i inside the row. */
type Source = (offset: Local<"i32">, at: number) => V128;

export function emitRows(module: WasmModule, name: string, spec: RowSpec): void {
  module.func(name, rowParams, "void", (p, body) => {
    const inputColumns = spec.source === "silu-mul" ? 2 * spec.columns : spec.columns;
    const { begin, end } = share(body, p.rows, p.thread, p.threads);
    body.for(begin, end, 1, (row) => {
      const x = body.local(i32.add(p.x, i32.mul(row, inputColumns * 4)));
      const source = emitSource(body, spec, x, p.weight);
      if (spec.digits === undefined) emitPlain(body, spec, source, p.y, row);
      else emitRounded(body, { ...spec, digits: spec.digits }, source, p.y, row);
    });
  });
}

function emitSource(body: Body, spec: RowSpec, x: Local<"i32">, weight: Local<"i32">): Source {
  const value: Source = (offset, at) => v128.load(i32.add(x, offset), at);
  switch (spec.source) {
    case "copy":
      return value;
    case "rms-norm": {
      const factor = body.local(f32x4.splat(emitInverseRms(body, spec, x)));
      return (offset, at) =>
        f32x4.mul(f32x4.mul(value(offset, at), factor), v128.load(i32.add(weight, offset), at));
    }
    case "silu-mul": {
      const half = spec.columns * 4;
      return (offset, at) => {
        const gate = body.local(value(offset, at));
        const silu = f32x4.mul(gate, sigmoidF32x4(body, gate));
        return f32x4.mul(silu, value(offset, half + at));
      };
    }
    default:
      return spec.source satisfies never;
  }
}

/** 1 / √(mean(x²) + eps): four lanes of sums, added in a fixed tree; columns beyond a multiple of 4 go to lane 0. */
function emitInverseRms(body: Body, { columns, eps }: RowSpec, x: Local<"i32">): Expr<"f32"> {
  const sums = body.local(f32x4.const([0, 0, 0, 0]));
  const whole = columns - (columns % 4);
  body.for(0, whole * 4, 16, (offset) => {
    const four = body.local(v128.load(i32.add(x, offset)));
    sums.set(f32x4.add(sums, f32x4.mul(four, four)));
  });
  for (let at = whole; at < columns; at++) {
    const four = body.local(v128.load32_zero(x, 4 * at));
    sums.set(f32x4.add(sums, f32x4.mul(four, four)));
  }
  const mean = f32.div(horizontal(body, sums, f32.add), f32.const(columns));
  return f32.div(f32.const(1), f32.sqrt(f32.add(mean, f32.const(eps ?? 0))));
}

/** (lane 0 ∘ lane 1) ∘ (lane 2 ∘ lane 3). */
export function horizontal(
  body: Body,
  vector: V128,
  join: (a: Expr<"f32">, b: Expr<"f32">) => Expr<"f32">,
): Expr<"f32"> {
  const kept = body.local(vector);
  const lane = (at: number): Expr<"f32"> => f32x4.extract_lane(kept, at);
  return join(join(lane(0), lane(1)), join(lane(2), lane(3)));
}

function emitPlain(
  body: Body,
  { columns }: RowSpec,
  source: Source,
  y: Local<"i32">,
  row: Local<"i32">,
): void {
  const to = body.local(i32.add(y, i32.mul(row, columns * 4)));
  const whole = columns - (columns % 4);
  body.for(0, whole * 4, 16, (offset) => {
    body.emit(v128.store(i32.add(to, offset), source(offset, 0)));
  });
  if (whole === columns) return;
  const offset = body.local(i32.const(whole * 4));
  const rest = body.local(source(offset, 0));
  for (let lane = 0; lane < columns - whole; lane++)
    body.emit(f32.store(i32.add(to, offset), f32x4.extract_lane(rest, lane), 4 * lane));
}

function emitRounded(
  body: Body,
  spec: RowSpec & { readonly digits: Digits },
  source: Source,
  y: Local<"i32">,
  row: Local<"i32">,
): void {
  const place = roundedPlace(spec.columns, spec.digits, spec.maxRows);
  const digits = body.local(i32.add(y, i32.mul(row, place.rowBytes)));
  const records = body.local(
    i32.add(i32.add(y, i32.mul(row, place.recordRowBytes)), place.recordOffset),
  );
  body.for(0, spec.columns * 4, 128, (offset) => {
    const values = Array.from({ length: 8 }, (_, i) => body.local(source(offset, 16 * i)));
    emitRoundBlock(body, spec.digits, values, { digits, low: place.lowOffset, records });
    digits.set(i32.add(digits, 32));
    records.set(i32.add(records, recordBytes));
  });
}

/** Rounds 32 values as `roundActivations` defines it, and writes digits and record. */
function emitRoundBlock(
  body: Body,
  digits: Digits,
  values: readonly Local<"v128">[],
  to: { digits: Local<"i32">; low: number; records: Local<"i32"> },
): void {
  const tree = (vectors: readonly V128[], join: (a: V128, b: V128) => V128): V128 =>
    vectors.reduce(join);
  const largest = body.local(
    horizontal(
      body,
      tree(
        values.map((value) => f32x4.abs(value)),
        f32x4.max,
      ),
      f32.max,
    ),
  );
  const levels = largestDigit[digits];
  const inverse = body.local(f32.const(0));
  body.if(f32.ge(largest, leastRounded), () => inverse.set(f32.div(f32.const(levels), largest)));
  const factor = body.local(f32x4.splat(inverse));
  const integers = values.map((value) =>
    body.local(i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(value, factor)))),
  );
  const first = body.local(tree(integers.slice(0, 4), i32x4.add));
  const all = body.local(i32x4.add(first, tree(integers.slice(4), i32x4.add)));
  body.emit(f32.store(to.records, f32.div(largest, f32.const(levels)), record.scale));
  body.emit(i32.store(to.records, laneSum(all), record.sum));
  body.emit(i32.store(to.records, laneSum(first), record.sumFirst));
  const store = (quads: readonly V128[], offset: number): void => {
    for (const half of [0, 1]) {
      const [a, b, c, d] = quads.slice(4 * half, 4 * half + 4);
      const bytes = i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d));
      body.emit(v128.store(to.digits, bytes, offset + 16 * half));
    }
  };
  if (digits === 1) return store(integers, 0);
  const highs = integers.map((value) =>
    body.local(i32x4.shr_s(i32x4.add(value, i32x4.splat(i32.const(128))), 8)),
  );
  const lows = integers.map((value, i) => i32x4.sub(value, i32x4.shl(highs[i], 8)));
  store(highs, 0);
  for (const half of [0, 1]) {
    const [a, b, c, d] = lows.slice(4 * half, 4 * half + 4);
    const bytes = i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d));
    body.emit(v128.store(i32.add(to.digits, to.low), bytes, 16 * half));
  }
}

const laneSum = (vector: Local<"v128">): Expr<"i32"> => {
  const lane = (at: number): Expr<"i32"> => i32x4.extract_lane(vector, at);
  return i32.add(i32.add(lane(0), lane(1)), i32.add(lane(2), lane(3)));
};
