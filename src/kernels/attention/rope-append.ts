import { f32, f32x4, i32, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local, V128 } from "../../codegen/wasm/builder.ts";
import { f32x4ToF16 } from "../../codegen/wasm/math.ts";
import { Capture } from "../../ir/graph.ts";
import { largestDigit, placeholder, ropeAppend } from "../../ops/index.ts";
import { kvGroup, pagePlace, pageTokens } from "../../quant/kv-page.ts";
import type { KvType, PageShape } from "../../quant/kv-page.ts";
import { inputOf, rowsOf, type Kernel } from "../kernel.ts";
import { rowAt, rowCall, stepOf, type Named } from "../program.ts";
import { roundBy, roundingOf } from "../rows.ts";
import { anyShape, cache, pagesOf, shapeOf, tables } from "./pages.ts";
import { forQuads, lanesOf, type Lanes } from "./pages.ts";

/** Turns queries and keys of a row, stores keys and values, of some KV heads and theirs. Scratch: one head. */
export const ropeAppendKernel: Kernel = {
  meaning: ropeAppend(placeholder("qkv"), cache, { ...anyShape, ropeBase: new Capture("base") }),
  lower: (use, at) => {
    const shape = shapeOf(use);
    const { heads, kvHeads, headDim, group } = shape;
    const head = headDim * 4;
    at.scratch(head);
    const name = `rope-append ${shape.mark}`;
    const qkv = inputOf(use, "qkv");
    const rows = rowsOf(qkv);
    const read = tables("slots", "sinkEnds", "windowAngles", "sinkAngles");
    const given = { qkv, queries: use.root, pages: pagesOf(use), ...read };
    const call = rowCall(
      at,
      name,
      { rows, parts: kvHeads },
      given,
      (body, row, p, { begin, end }) => {
        const qkv = rowAt(body, p.qkv, row, (heads + 2 * kvHeads) * head);
        const queries = rowAt(body, p.queries, row, 2 * heads * head);
        const angles = rowAt(body, p.windowAngles, row, head);
        const rotateHeads = (to: Expr<"i32">, table: Local<"i32">): void => {
          const before = body.local(i32.mul(begin, group * head));
          const target = body.at(to, before);
          const source = body.at(qkv, before);
          body.for(0, i32.mul(i32.sub(end, begin), group), 1, () => {
            emitRotate(body, headDim, { from: source, table, to: target });
            source.set(i32.add(source, head));
            target.set(i32.add(target, head));
          });
        };
        rotateHeads(queries, angles);
        body.if(i32.load(i32.add(p.sinkEnds, i32.shl(row, 2))), () =>
          rotateHeads(i32.add(queries, heads * head), rowAt(body, p.sinkAngles, row, head)),
        );
        const slot = body.local(i32.load(i32.add(p.slots, i32.shl(row, 2))));
        const offset = body.local(i32.and(slot, pageTokens - 1));
        const { pageBytes, headBytes } = pagePlace(shape);
        const page = rowAt(body, p.pages, i32.shr_u(slot, 4), pageBytes);
        page.set(i32.add(page, i32.mul(begin, headBytes)));
        const key = rowAt(body, i32.add(qkv, heads * head), begin, head);
        const value = body.at(key, kvHeads * head);
        body.for(begin, end, 1, () => {
          emitRotate(body, headDim, { from: key, table: angles, to: p.scratch });
          storeHead(body, shape, "keys", { from: p.scratch, page, offset });
          storeHead(body, shape, "values", { from: value, page, offset });
          key.set(i32.add(key, head));
          value.set(i32.add(value, head));
          page.set(i32.add(page, headBytes));
        });
      },
    );
    return [stepOf(name, rows, call)];
  },
};

/** (a, b) → (a·cos − b·sin, b·cos + a·sin) for the pairs (i, i + headDim/2), 4 at a time where the half allows it. */
function emitRotate(
  body: Body,
  headDim: number,
  { from, table, to }: Named<"from table to">,
): void {
  const half = headDim * 2; // bytes
  const wide = (headDim / 2) % 4 === 0;
  body.for(0, half, wide ? 16 : 4, (i) => {
    const [at, angle, target] = [from, table, to].map((base) => body.at(base, i));
    const load = (base: Expr<"i32">, offset: number): Local<"v128"> =>
      body.local((wide ? v128.load : v128.load32_zero)(base, offset));
    const store = (value: Expr<"v128">, offset: number): void =>
      body.emit(
        wide ? v128.store(target, value, offset) : v128.store32_lane(target, value, 0, offset),
      );
    const [a, b, cos, sin] = [load(at, 0), load(at, half), load(angle, 0), load(angle, half)];
    store(f32x4.sub(f32x4.mul(a, cos), f32x4.mul(b, sin)), 0);
    store(f32x4.add(f32x4.mul(b, cos), f32x4.mul(a, sin)), half);
  });
}

/** Stores an element that lies in the low bits of an i32 lane. */
const storeLane: Readonly<
  Record<KvType, (at: Expr<"i32">, four: V128, lane: number, offset: number) => Expr<"void">>
> = {
  f32: v128.store32_lane,
  f16: (at, four, lane, offset) => v128.store16_lane(at, four, 2 * lane, offset),
  q8: (at, four, lane, offset) => v128.store8_lane(at, four, 4 * lane, offset),
};

/** The other lanes are zero. */
const loadLanes = (lanes: Lanes, at: Expr<"i32">, offset = 0): V128 =>
  (lanes === 4 ? v128.load : v128.load64_zero)(at, offset);

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
    body.at(i32.add(page, start), i32.mul(offset, isKey ? bytes : count * bytes));
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
