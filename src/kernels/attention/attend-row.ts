import { i32 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local } from "../../codegen/wasm/builder.ts";
import type { Named } from "../program.ts";
import { spanTokens, type AttendSpec } from "./attend-page.ts";

/** What all programs of attention are given. */
export const attendParams =
  "queries y records rows pages positions sinkEnds windowStarts sinkTables windowTables pageTable thread threads scratch";
export type AttendParams = Named<typeof attendParams>;

export const spanShift: number = Math.log2(spanTokens);

/** Spans [0, sinkSpans) hold sinks; then [firstSpan, lastSpan] the window. */
export interface SeenSpans {
  readonly sinkSpans: Local<"i32">;
  readonly firstSpan: Local<"i32">;
  readonly lastSpan: Local<"i32">;
}

/** Positions from … to − 1, whose pages a table numbers, and the queries [heads][headDim] for them. */
export interface SeenRange {
  readonly from: Expr<"i32">;
  readonly to: Local<"i32">;
  readonly table: Local<"i32">;
  readonly queries: Local<"i32">;
}

/** What a row sees: sinks, then the window, in order of position. */
export interface Row extends SeenSpans {
  readonly ranges: readonly [sinks: SeenRange, window: SeenRange];
}

export function loadRow(body: Body, spec: AttendSpec, p: AttendParams, index: Expr<"i32">): Row {
  const at = body.local(i32.shl(index, 2));
  const load = (table: Local<"i32">): Local<"i32"> => body.local(i32.load(i32.add(table, at)));
  const position = load(p.positions);
  const sinkEnd = load(p.sinkEnds);
  const windowStart = load(p.windowStarts);
  body.if(i32.lt_s(windowStart, sinkEnd), () => windowStart.set(sinkEnd));
  const tableAt = (number: Local<"i32">): Local<"i32"> =>
    body.local(i32.add(p.pageTable, i32.shl(number, 2)));
  const sinkSpans = body.local(i32.shr_u(i32.add(sinkEnd, spanTokens - 1), spanShift));
  const headsBytes = spec.heads * spec.headDim * 4;
  const queries = body.local(i32.add(p.queries, i32.mul(index, 2 * headsBytes)));
  const windowTable = tableAt(load(p.windowTables));
  return {
    sinkSpans,
    firstSpan: larger(body, i32.shr_u(windowStart, spanShift), sinkSpans),
    lastSpan: body.local(i32.shr_u(position, spanShift)),
    ranges: [
      {
        from: i32.const(0),
        to: sinkEnd,
        table: tableAt(load(p.sinkTables)),
        queries: body.local(i32.add(queries, headsBytes)),
      },
      { from: windowStart, to: body.local(i32.add(position, 1)), table: windowTable, queries },
    ],
  };
}

export const seesSpan = (
  { sinkSpans, firstSpan, lastSpan }: SeenSpans,
  span: Local<"i32">,
): Expr<"i32"> =>
  i32.or(i32.lt_s(span, sinkSpans), i32.and(i32.le_s(firstSpan, span), i32.le_s(span, lastSpan)));

/** Runs `each` for every span, in order. */
export function forSpans(
  body: Body,
  { sinkSpans, firstSpan, lastSpan }: SeenSpans,
  each: (span: Local<"i32">) => void,
): void {
  const span = body.local(i32.const(0));
  body.if(i32.eqz(sinkSpans), () => span.set(firstSpan));
  body.while(
    () => i32.le_s(span, lastSpan),
    () => {
      each(span);
      span.set(i32.add(span, 1));
      body.if(i32.and(i32.eq(span, sinkSpans), i32.lt_s(span, firstSpan)), () =>
        span.set(firstSpan),
      );
    },
  );
}

export function smaller(body: Body, a: Expr<"i32">, b: Expr<"i32">): Local<"i32"> {
  const [least, other] = [body.local(a), body.local(b)];
  body.if(i32.lt_s(other, least), () => least.set(other));
  return least;
}
export function larger(body: Body, a: Expr<"i32">, b: Expr<"i32">): Local<"i32"> {
  const [most, other] = [body.local(a), body.local(b)];
  body.if(i32.gt_s(other, most), () => most.set(other));
  return most;
}
