import { f32, f32x4, i16x8, i32, i32x4, i8x16, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local } from "../../codegen/wasm/builder.ts";
import { f16ToF32x4, f32x4ToF16 } from "../../codegen/wasm/math.ts";
import {
  kvGroup,
  pagePlace,
  pageTokens,
  type KvType,
  type PageShape,
} from "../../quant/kv-page.ts";
import { leastRounded } from "../../ops/index.ts";
import { horizontal } from "../rows.ts";

type V128 = Expr<"v128">;

/** 4 consecutive elements at an address, as f32; q8 without its scale. */
export function loadFour(kv: KvType, at: Expr<"i32">, offset: number): V128 {
  switch (kv) {
    case "f32":
      return v128.load(at, offset);
    case "f16":
      return f16ToF32x4(v128.load16x4_s(at, offset));
    case "q8":
      return f32x4.convert_i32x4_s(
        i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(at, offset))),
      );
    default:
      return kv satisfies never;
  }
}

/** Lanes in use: 2 where a headDim that is no multiple of 4 ends. */
export type Lanes = 4 | 2;

/** Runs `each` for the dimensions of a head, 4 and at the end perhaps 2 at a time, with their offset in bytes of f32. */
export function forQuads(
  body: Body,
  headDim: number,
  each: (offset: Local<"i32">, lanes: Lanes) => void,
): void {
  const whole = headDim - (headDim % 4);
  if (whole > 0) body.for(0, 4 * whole, 16, (offset) => each(offset, 4));
  if (whole < headDim) each(body.local(i32.const(4 * whole)), 2);
}

/** The other lanes are zero. */
const loadLanes = (lanes: Lanes, at: Expr<"i32">, offset = 0): V128 =>
  (lanes === 4 ? v128.load : v128.load64_zero)(at, offset);
export const storeLanes = (lanes: Lanes, at: Expr<"i32">, value: V128, offset = 0): Expr<"void"> =>
  lanes === 4 ? v128.store(at, value, offset) : v128.store64_lane(at, value, offset, 0);

/** Stores f32 values as elements of the page, `stride` bytes apart. */
function storeElements(
  body: Body,
  kv: "f32" | "f16",
  value: V128,
  lanes: Lanes,
  at: Local<"i32">,
  stride: number,
): void {
  const kept = body.local(kv === "f32" ? value : f32x4ToF16(body, value));
  for (let lane = 0; lane < lanes; lane++)
    body.emit(
      kv === "f32"
        ? v128.store32_lane(at, kept, lane * stride, lane)
        : v128.store16_lane(at, kept, lane * stride, 2 * lane),
    );
}

/** Stores one head (f32 values at `from`) of the token at `offset` in its page: its key or its value. */
export function storeHead(
  body: Body,
  shape: PageShape,
  part: "keys" | "values",
  from: Local<"i32">,
  page: Expr<"i32">,
  offset: Local<"i32">,
): void {
  const { kv, headDim } = shape;
  const place = pagePlace(shape);
  const stride = part === "keys" ? pageTokens * place.element : place.element;
  const shift = part === "keys" ? place.element : headDim * place.element;
  const start = part === "keys" ? 0 : place.values;
  const to = body.local(i32.add(i32.add(page, start), i32.mul(offset, shift)));
  if (kv !== "q8") {
    forQuads(body, headDim, (at, lanes) => {
      storeElements(body, kv, loadLanes(lanes, i32.add(from, at)), lanes, to, stride);
      to.set(i32.add(to, 4 * stride));
    });
    return;
  }
  const scaleStride = part === "keys" ? pageTokens * 4 : 4;
  const scaleShift = part === "keys" ? 4 : place.groups * 4;
  const scaleStart = part === "keys" ? place.keyScales : place.valueScales;
  const scales = body.local(i32.add(i32.add(page, scaleStart), i32.mul(offset, scaleShift)));
  for (let group = 0; group < place.groups; group++) {
    const width = Math.min(kvGroup, headDim - group * kvGroup);
    const lanesOf = (i: number): Lanes => (4 * i + 4 > width ? 2 : 4);
    const load = (i: number): V128 => loadLanes(lanesOf(i), from, 4 * group * kvGroup + 16 * i);
    const quads = Array.from({ length: Math.ceil(width / 4) }, (_, i) => body.local(load(i)));
    const factor = storeScale(body, quads, scales, group * scaleStride);
    quads.forEach((quad, i) => {
      const rounded = f32x4.nearest(f32x4.mul(quad, factor));
      const integers = body.local(i32x4.trunc_sat_f32x4_s(rounded));
      const bytes = body.local(
        i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(integers, integers), i32x4.const([0, 0, 0, 0])),
      );
      for (let lane = 0; lane < lanesOf(i); lane++)
        body.emit(v128.store8_lane(to, bytes, (group * kvGroup + 4 * i + lane) * stride, lane));
    });
  }
}

/** Stores largest |value| / 127 and returns its inverse in all lanes (0 where all values are next to nothing). */
function storeScale(
  body: Body,
  quads: readonly Local<"v128">[],
  scales: Local<"i32">,
  offset: number,
): Local<"v128"> {
  const magnitudes = quads.map<V128>((quad) => f32x4.abs(quad));
  const largest = body.local(
    horizontal(
      body,
      magnitudes.reduce((a, b) => f32x4.max(a, b)),
      f32.max,
    ),
  );
  body.emit(f32.store(scales, f32.div(largest, f32.const(127)), offset));
  const inverse = body.local(f32.const(0));
  body.if(f32.ge(largest, leastRounded), () => inverse.set(f32.div(f32.const(127), largest)));
  return body.local(f32x4.splat(inverse));
}
