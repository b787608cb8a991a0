import { f32x4, i32, integers, memory, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, FuncRef, Local, Locals, WasmModule } from "../../codegen/wasm/builder.ts";
import { pagePlace, pageTokens } from "../../quant/kv-page.ts";
import {
  emitCopyVisible,
  emitScores,
  emitValues,
  emitWeights,
  groupOf,
  hiddenScore,
  scoresBytes,
  spanTokens,
  type AttendSpec,
} from "./attend-page.ts";

/** A record is o [group][headDim], m [group], l [group] in f32, for the query heads that share a KV head. */
export const recordBytes = (spec: AttendSpec): number => groupOf(spec) * (spec.headDim + 2) * 4;

/** Scratch of a span: its scores, and those of a page that is seen in part. */
export const spanScratchBytes = (spec: AttendSpec): number => 2 * scoresBytes(spec);

/**
 * `start`: first position of the span; `queries`: of a row and KV head, those for sinks lie heads × headDim further; `pages`: of
 * the layer, at the KV head.
 */
const spanParams = integers(
  "start queries pages sinkEnd sinkTable windowStart windowEnd windowTable record scratch",
);

/** The keys of one span that a row sees, sinks [0, sinkEnd) and window [windowStart, windowEnd), into a record. */
export function emitSpan(module: WasmModule, name: string, spec: AttendSpec): FuncRef<"void"> {
  const scores = emitScores(module, `${name}:scores`, spec);
  const copy = emitCopyVisible(module, `${name}:copy`, spec);
  const weights = emitWeights(module, `${name}:weights`, spec);
  const values = emitValues(module, `${name}:values`, spec);
  const oBytes = groupOf(spec) * spec.headDim * 4;
  const build = (p: Locals<typeof spanParams>, body: Body): void => {
    const hidden = f32x4.const(Array(4).fill(hiddenScore));
    body.for(0, scoresBytes(spec), 16, (at) =>
      body.emit(v128.store(i32.add(p.scratch, at), hidden)),
    );
    body.emit(memory.fill(p.record, 0, oBytes));
    const past = body.local(i32.add(p.start, spanTokens));
    const ranges = [
      {
        from: p.start,
        to: smaller(body, p.sinkEnd, past),
        table: p.sinkTable,
        queries: body.local(i32.add(p.queries, spec.heads * spec.headDim * 4)),
      },
      {
        from: larger(body, p.windowStart, p.start),
        to: smaller(body, p.windowEnd, past),
        table: p.windowTable,
        queries: p.queries,
      },
    ];
    const partial = body.local(i32.add(p.scratch, scoresBytes(spec)));
    for (const { from, to, table, queries } of ranges)
      forPages(body, spec, p, { from, to, table }, ({ page, first, past, at }) => {
        const to = body.local(i32.add(p.scratch, at));
        body.if(
          i32.eq(i32.sub(past, first), pageTokens),
          () => body.emit(scores.call(queries, page, to)),
          () => {
            body.emit(scores.call(queries, page, partial));
            body.emit(copy.call(first, past, partial, to));
          },
        );
      });
    // Whole pages of scores: beyond them all are hidden.
    const seen = i32.sub(larger(body, ranges[0].to, ranges[1].to), p.start);
    const bytes = i32.shl(i32.shr_u(i32.add(seen, pageTokens - 1), 4), 6);
    body.emit(weights.call(p.scratch, bytes, i32.add(p.record, oBytes)));
    for (const { from, to, table } of ranges)
      forPages(body, spec, p, { from, to, table }, ({ page, first, past, at }) =>
        body.emit(values.call(i32.add(p.scratch, at), page, first, past, p.record)),
      );
  };
  return module.func(name, spanParams, "void", build, { export: false });
}

interface Range {
  /** Positions. */
  readonly from: Local<"i32">;
  readonly to: Local<"i32">;
  /** Numbers of the sequence's pages. */
  readonly table: Local<"i32">;
}
/** A page of the span: its address, which of its tokens are seen, and where in the span's rows of scores it begins. */
interface SeenPage {
  readonly page: Local<"i32">;
  readonly first: Local<"i32">;
  readonly past: Local<"i32">;
  readonly at: Local<"i32">;
}

function forPages(
  body: Body,
  spec: AttendSpec,
  p: Locals<typeof spanParams>,
  { from, to, table }: Range,
  each: (page: SeenPage) => void,
): void {
  const next = body.local(from);
  body.while(
    () => i32.lt_s(next, to),
    () => {
      const number = body.local(i32.shr_u(next, 4));
      const start = body.local(i32.shl(number, 4));
      const stored = i32.load(i32.add(table, i32.shl(number, 2)));
      each({
        page: body.local(i32.add(p.pages, i32.mul(stored, pagePlace(spec).pageBytes))),
        first: body.local(i32.sub(next, start)),
        past: smaller(body, body.local(i32.sub(to, start)), i32.const(pageTokens)),
        at: body.local(i32.shl(i32.sub(start, p.start), 2)),
      });
      next.set(i32.add(start, pageTokens));
    },
  );
}

function smaller(body: Body, a: Local<"i32">, b: Expr<"i32">): Local<"i32"> {
  const least = body.local(b);
  body.if(i32.lt_s(a, least), () => least.set(a));
  return least;
}
function larger(body: Body, a: Local<"i32">, b: Expr<"i32">): Local<"i32"> {
  const most = body.local(b);
  body.if(i32.gt_s(a, most), () => most.set(a));
  return most;
}
