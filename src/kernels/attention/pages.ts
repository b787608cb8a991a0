import { f32x4, i16x8, i32, i32x4, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local, V128 } from "../../codegen/wasm/builder.ts";
import { f16ToF32x4 } from "../../codegen/wasm/math.ts";
import { Capture, type Node } from "../../ir/graph.ts";
import { placeholder } from "../../ops/index.ts";
import type { Argument, TableName } from "../../plan/plan.ts";
import type { KvType, PageShape } from "../../quant/kv-page.ts";
import { attrOf, type Use } from "../kernel.ts";

/** In the meanings of kernels: any layer, any shape. */
export const anyShape: Readonly<Record<"layer" | "heads" | keyof PageShape, Capture>> = {
  layer: new Capture("layer"),
  kv: new Capture("kv"),
  heads: new Capture("heads"),
  kvHeads: new Capture("kvHeads"),
  headDim: new Capture("headDim"),
};
export const cache: Node = placeholder("cache");

/** Pages, and the query heads that read them. */
export interface AttentionShape extends PageShape {
  readonly heads: number;
  /** Query heads that share a KV head. */
  readonly group: number;
  /** All of these, for the names of programs. */
  readonly mark: string;
}

export function shapeOf(use: Use): AttentionShape {
  const kv = String(use.attrs.get("kv")) as KvType;
  const [heads, kvHeads, headDim] = ["heads", "kvHeads", "headDim"].map((key) => attrOf(use, key));
  const mark = `${kv} ${heads}/${kvHeads}×${headDim}`;
  return { kv, heads, kvHeads, headDim, group: heads / kvHeads, mark };
}

export const pagesOf = (use: Use): Argument => ({ kind: "pages", layer: attrOf(use, "layer") });
/** Tables of the step, for parameters of the same names. */
export function tables<Name extends TableName>(...names: Name[]): Readonly<Record<Name, Argument>> {
  const given = names.map((table) => [table, { kind: "table", table } satisfies Argument] as const);
  return Object.fromEntries(given) as Record<Name, Argument>;
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

export const storeLanes = (lanes: Lanes, at: Expr<"i32">, value: V128, offset = 0): Expr<"void"> =>
  lanes === 4 ? v128.store(at, value, offset) : v128.store64_lane(at, value, 0, offset);
