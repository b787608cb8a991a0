import { f32x4, i32, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local, WasmModule } from "../../codegen/wasm/builder.ts";
import { share } from "../linear/block.ts";
import { storeHead } from "./pages.ts";
import { pagePlace, pageTokens, type PageShape } from "../../quant/kv-page.ts";

export interface RopeAppendSpec extends PageShape {
  readonly heads: number;
}

const ropeAppendParams = {
  qkv: "i32",
  queries: "i32",
  rows: "i32",
  pages: "i32",
  slots: "i32",
  sinkEnds: "i32",
  windowAngles: "i32",
  sinkAngles: "i32",
  thread: "i32",
  threads: "i32",
  scratch: "i32",
} as const;
type Params = { readonly [Name in keyof typeof ropeAppendParams]: Local<"i32"> };

/** Turns queries and keys, stores keys and values. Scratch: one head. */
export function emitRopeAppend(module: WasmModule, name: string, spec: RopeAppendSpec): void {
  module.func(name, ropeAppendParams, "void", (p, body) => {
    const { begin, end } = share(body, p.rows, p.thread, p.threads);
    body.for(begin, end, 1, (row) => emitRow(body, spec, p, row));
  });
}

function emitRow(body: Body, spec: RopeAppendSpec, p: Params, row: Local<"i32">): void {
  const { heads, kvHeads, headDim } = spec;
  const head = headDim * 4;
  const qkv = body.local(i32.add(p.qkv, i32.mul(row, (heads + 2 * kvHeads) * head)));
  const queries = body.local(i32.add(p.queries, i32.mul(row, 2 * heads * head)));
  const angles = body.local(i32.add(p.windowAngles, i32.mul(row, head)));
  const rotateHeads = (to: Expr<"i32">, table: Local<"i32">): void => {
    const target = body.local(to);
    const source = body.local(qkv);
    body.for(0, heads, 1, () => {
      emitRotate(body, headDim, source, table, target);
      source.set(i32.add(source, head));
      target.set(i32.add(target, head));
    });
  };
  rotateHeads(queries, angles);
  body.if(i32.load(i32.add(p.sinkEnds, i32.shl(row, 2))), () => {
    const sinks = body.local(i32.add(p.sinkAngles, i32.mul(row, head)));
    rotateHeads(i32.add(queries, heads * head), sinks);
  });
  const slot = body.local(i32.load(i32.add(p.slots, i32.shl(row, 2))));
  const offset = body.local(i32.and(slot, pageTokens - 1));
  const { pageBytes, headBytes } = pagePlace(spec);
  const page = body.local(i32.add(p.pages, i32.mul(i32.shr_u(slot, 4), pageBytes)));
  const key = body.local(i32.add(qkv, heads * head));
  const value = body.local(i32.add(key, kvHeads * head));
  body.for(0, kvHeads, 1, () => {
    emitRotate(body, headDim, key, angles, p.scratch);
    storeHead(body, spec, "keys", p.scratch, page, offset);
    storeHead(body, spec, "values", value, page, offset);
    key.set(i32.add(key, head));
    value.set(i32.add(value, head));
    page.set(i32.add(page, headBytes));
  });
}

/** (a, b) → (a·cos − b·sin, b·cos + a·sin) for the pairs (i, i + headDim/2), 4 at a time where the half allows it. */
function emitRotate(
  body: Body,
  headDim: number,
  from: Local<"i32">,
  table: Local<"i32">,
  to: Local<"i32">,
): void {
  const half = headDim * 2; // bytes
  const wide = (headDim / 2) % 4 === 0;
  const load = (at: Expr<"i32">, offset: number): Expr<"v128"> =>
    wide ? v128.load(at, offset) : v128.load32_zero(at, offset);
  body.for(0, half, wide ? 16 : 4, (i) => {
    const at = body.local(i32.add(from, i));
    const angle = body.local(i32.add(table, i));
    const target = body.local(i32.add(to, i));
    const [a, b] = [body.local(load(at, 0)), body.local(load(at, half))];
    const [cos, sin] = [body.local(load(angle, 0)), body.local(load(angle, half))];
    const store = (value: Expr<"v128">, offset: number): void =>
      body.emit(
        wide ? v128.store(target, value, offset) : v128.store32_lane(target, value, offset, 0),
      );
    store(f32x4.sub(f32x4.mul(a, cos), f32x4.mul(b, sin)), 0);
    store(f32x4.add(f32x4.mul(b, cos), f32x4.mul(a, sin)), half);
  });
}
