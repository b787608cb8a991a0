import { f32x4, i32, v128, type Body, type Expr, type Local } from "../../codegen/wasm/builder.ts";
import { pagePlace, pageTokens } from "../../quant/kv-page.ts";
import { rowAt, type EmitRow, type Named } from "../program.ts";
import { storeHead, type AttentionShape } from "./pages.ts";

type Param = "qkv" | "queries" | "pages" | "slots" | "sinkEnds" | "windowAngles" | "sinkAngles";

/** Turns queries and keys of a row, stores keys and values, of some KV heads and theirs. Scratch: one head. */
export const emitRopeAppend =
  (shape: AttentionShape): EmitRow<Param> =>
  (body, row, p, { begin, end }) => {
    const { heads, kvHeads, headDim } = shape;
    const head = headDim * 4;
    const group = heads / kvHeads;
    const qkv = rowAt(body, p.qkv, row, (heads + 2 * kvHeads) * head);
    const queries = rowAt(body, p.queries, row, 2 * heads * head);
    const angles = rowAt(body, p.windowAngles, row, head);
    const rotateHeads = (to: Expr<"i32">, table: Local<"i32">): void => {
      const before = body.local(i32.mul(begin, group * head));
      const target = body.local(i32.add(to, before));
      const source = body.local(i32.add(qkv, before));
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
    const value = body.local(i32.add(key, kvHeads * head));
    body.for(begin, end, 1, () => {
      emitRotate(body, headDim, { from: key, table: angles, to: p.scratch });
      storeHead(body, shape, "keys", { from: p.scratch, page, offset });
      storeHead(body, shape, "values", { from: value, page, offset });
      key.set(i32.add(key, head));
      value.set(i32.add(value, head));
      page.set(i32.add(page, headBytes));
    });
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
    const [at, angle, target] = [from, table, to].map((base) => body.local(i32.add(base, i)));
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
