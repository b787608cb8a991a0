import { f32, f32x4, i16x8, i32, i32x4, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local, V128 } from "../../codegen/wasm/builder.ts";
import { f16ToF32x4, f32x4ToF16 } from "../../codegen/wasm/math.ts";
import { largestDigit } from "../../ops/index.ts";
import { kvGroup, pagePlace, pageTokens } from "../../quant/kv-page.ts";
import type { KvType, PageShape } from "../../quant/kv-page.ts";
import type { Named } from "../program.ts";
import { roundBy, roundingOf } from "../rows.ts";

/** Pages, and the query heads that read them. */
export interface AttentionShape extends PageShape {
  readonly heads: number;
}

/** 4 consecutive elements at an address, as f32; q8 without its scale. */
export const loadFour: Readonly<Record<KvType, (at: Expr<"i32">, offset: number) => V128>> = {
  f32: v128.load,
  f16: (at, offset) => f16ToF32x4(v128.load16x4_s(at, offset)),
  q8: (at, offset) =>
    f32x4.convert_i32x4_s(
      i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(at, offset))),
    ),
};

/** Stores an element that lies in the low bits of an i32 lane. */
const storeLane: Readonly<
  Record<KvType, (at: Expr<"i32">, four: V128, lane: number, offset: number) => Expr<"void">>
> = {
  f32: v128.store32_lane,
  f16: (at, four, lane, offset) => v128.store16_lane(at, four, 2 * lane, offset),
  q8: (at, four, lane, offset) => v128.store8_lane(at, four, 4 * lane, offset),
};

/** Lanes in use: 2 where a headDim that is no multiple of 4 ends. */
export type Lanes = 4 | 2;
/** Of each of the vectors of `count` dimensions. */
export const lanesOf = (count: number): Lanes[] =>
  Array.from({ length: Math.ceil(count / 4) }, (_, i) => (4 * i + 4 > count ? 2 : 4));

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
  lanes === 4 ? v128.store(at, value, offset) : v128.store64_lane(at, value, 0, offset);

/** Stores one head (f32 values at `from`) of the token at `offset` in its page: its key or its value. */
export function storeHead(
  body: Body,
  shape: PageShape,
  part: "keys" | "values",
  { from, page, offset }: Named<"from page offset">,
): void {
  const { kv, headDim } = shape;
  const { element, groups, ...place } = pagePlace(shape);
  /** Keys have a number of all tokens side by side, values all numbers of a token. */
  const isKey = part === "keys";
  const tokenAt = (start: number, count: number, bytes: number): Local<"i32"> =>
    body.local(i32.add(i32.add(page, start), i32.mul(offset, isKey ? bytes : count * bytes)));
  const apart = isKey ? pageTokens : 1;
  const stride = apart * element;
  const to = tokenAt(isKey ? 0 : place.values, headDim, element);
  const store = (value: V128, lanes: Lanes, first: number): void => {
    const four = body.local(value);
    for (let lane = 0; lane < lanes; lane++)
      body.emit(storeLane[kv](to, four, lane, (first + lane) * stride));
  };
  if (kv !== "q8")
    return forQuads(body, headDim, (at, lanes) => {
      const value = loadLanes(lanes, i32.add(from, at));
      store(kv === "f32" ? value : f32x4ToF16(body, value), lanes, 0);
      to.set(i32.add(to, 4 * stride));
    });
  const scales = tokenAt(isKey ? place.keyScales : place.valueScales, groups, 4);
  for (let group = 0; group < groups; group++) {
    const first = group * kvGroup;
    const width = Math.min(kvGroup, headDim - first);
    const lanes = lanesOf(width);
    const quads = lanes.map((count, i) => body.local(loadLanes(count, from, 4 * first + 16 * i)));
    const { scale, factor } = roundingOf(body, quads, largestDigit[1]);
    body.emit(f32.store(scales, scale, 4 * apart * group));
    quads.forEach((quad, i) => store(roundBy(quad, factor), lanes[i], first + 4 * i));
  }
}
