import { f32x4, i32, memory, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local } from "../../codegen/wasm/builder.ts";
import { pagePlace, pageTokens } from "../../quant/kv-page.ts";
import { internal, rowAt, type Emit, type Func, type Named } from "../program.ts";
import { emitCopyVisible, emitScores, emitValues, emitWeights, emitWiden } from "./attend-page.ts";
import { hiddenScore, planeBytes, scoresBytes, spanTokens } from "./attend-page.ts";
import type { AttendSpec } from "./attend-page.ts";

/** What all programs of attention are given; `attendKernel` has them in this order. */
const attendParams =
  "queries y records rows pages positions sinkEnds windowStarts sinkTables windowTables pageTable thread threads scratch";
const spanParams = `${attendParams} first past span kvHead record` as const;

/** A program of attention, or a span of it, that is being built. */
export type Code = AttendSpec & Func<typeof attendParams>;
type SpanCode = AttendSpec & Func<typeof spanParams>;

/** Spans [0, sinkSpans) hold sinks; then [firstSpan, lastSpan] the window. */
export type SeenSpans = Named<"sinkSpans firstSpan lastSpan">;

/** Positions from … to − 1, whose pages a table numbers, and the queries [heads][headDim] for them. */
interface SeenRange extends Named<"to table queries"> {
  readonly from: Expr<"i32">;
}

/** What a row sees: sinks, then the window, in order of position. */
interface Row extends SeenSpans {
  readonly sinks: SeenRange;
  readonly window: SeenRange;
}

const spanShift = Math.log2(spanTokens);

export function loadRow({ body, p, heads, headDim }: Code, index: Expr<"i32">): Row {
  const at = body.local(i32.shl(index, 2));
  const load = (table: Local<"i32">): Local<"i32"> => body.local(i32.load(i32.add(table, at)));
  const position = load(p.positions);
  const sinkEnd = load(p.sinkEnds);
  const windowStart = load(p.windowStarts);
  body.if(i32.lt_s(windowStart, sinkEnd), () => windowStart.set(sinkEnd));
  const tableAt = (number: Expr<"i32">) => body.at(p.pageTable, i32.shl(number, 2));
  const sinkSpans = body.local(i32.shr_u(i32.add(sinkEnd, spanTokens - 1), spanShift));
  const headsBytes = heads * headDim * 4;
  const queries = rowAt(body, p.queries, index, 2 * headsBytes);
  const table = tableAt(load(p.windowTables));
  const firstSpan = body.max(i32.shr_u(windowStart, spanShift), sinkSpans);
  const lastSpan = body.local(i32.shr_u(position, spanShift));
  const sinks = {
    from: i32.const(0),
    to: sinkEnd,
    table: tableAt(load(p.sinkTables)),
    queries: body.at(queries, headsBytes),
  };
  const window = { from: windowStart, to: body.local(i32.add(position, 1)), table, queries };
  return { sinkSpans, firstSpan, lastSpan, sinks, window };
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
  body.while(i32.le_s(span, lastSpan), () => {
    each(span);
    span.set(i32.add(span, 1));
    const isBetween = i32.and(i32.eq(span, sinkSpans), i32.lt_s(span, firstSpan));
    body.if(isBetween, () => span.set(firstSpan));
  });
}

/** A record is o [group][headDim], m [group], l [group] in f32, for the query heads that share a KV head. */
export const recordBytes = ({ group, headDim }: AttendSpec): number => group * (headDim + 2) * 4;

/** Most rows that go through the pages of a span together. */
export const mostBlockRows = 16;

/** Scratch of a span: scores of each row, those of a page that is seen in part, keys or values of a page as f32. */
export const spanScratchBytes = (spec: AttendSpec): number =>
  (mostBlockRows + 1) * scoresBytes(spec) + planeBytes(spec);

/**
 * The keys of one span and one KV head that the rows `first` … `past` − 1 see, into records one behind the other; that of a row that
 * sees none is left as it is. Page after page is read, for all rows.
 */
export const emitSpan: Emit<AttendSpec> = internal("span", spanParams, (code) => {
  const { body, p } = code;
  const scores = emitScores(code);
  const copy = emitCopyVisible(code);
  const weights = emitWeights(code);
  const values = emitValues(code);
  const widen = code.kv === "f32" ? undefined : emitWiden(code);
  const place = pagePlace(code);
  const oBytes = code.group * code.headDim * 4;
  const start = body.local(i32.shl(p.span, spanShift));
  const partial = body.at(p.scratch, mostBlockRows * scoresBytes(code));
  const wide = body.at(partial, scoresBytes(code));
  const widened = body.local(i32.const(-1));
  const widely = (plane: Local<"i32">): Local<"i32"> => {
    if (!widen) return plane;
    body.if(i32.ne(plane, widened), () => {
      body.emit(widen.call(plane, wide));
      widened.set(plane);
    });
    return wide;
  };
  forRows(code, ({ scores, record }) => {
    const hidden = f32x4.const(hiddenScore);
    body.for(0, scoresBytes(code), 16, (at) => body.emit(v128.store(i32.add(scores, at), hidden)));
    body.emit(memory.fill(record, 0, oBytes));
  });
  forPages(code, start, ({ page, first, past, at, range, scores: all }) => {
    const keys = widely(page);
    const to = body.at(all, at);
    const queries = i32.add(range.queries, i32.mul(p.kvHead, oBytes));
    const isWhole = i32.eq(i32.sub(past, first), pageTokens);
    const copied = (): void => {
      body.emit(scores.call(queries, keys, page, partial));
      body.emit(copy.call(first, past, partial, to));
    };
    body.if(isWhole, () => body.emit(scores.call(queries, keys, page, to)), copied);
  });
  forRows(code, ({ sinks, window, scores, record }) => {
    // Whole pages of scores: beyond them all are hidden.
    const to = body.max(sinks.to, window.to);
    const seen = body.min(i32.sub(to, start), spanTokens);
    const bytes = i32.shl(i32.shr_u(i32.add(seen, pageTokens - 1), 4), 6);
    body.emit(weights.call(scores, bytes, i32.add(record, oBytes)));
  });
  forPages(code, start, ({ page, first, past, at, scores, record }) => {
    const plane = widely(body.at(page, place.values));
    body.emit(values.call(i32.add(scores, at), plane, page, first, past, record));
  });
});

/** A row that sees the span: where its scores and its record lie. */
interface SpanRow extends Row, Named<"scores record"> {}

/** Runs `each` for the rows that see the span. */
function forRows(code: SpanCode, each: (row: SpanRow) => void): void {
  const { body, p } = code;
  const [scores, record] = [body.local(p.scratch), body.local(p.record)];
  body.for(p.first, p.past, 1, (index) => {
    const row = loadRow(code, index);
    body.if(seesSpan(row, p.span), () => each({ ...row, scores, record }));
    scores.set(i32.add(scores, scoresBytes(code)));
    record.set(i32.add(record, recordBytes(code)));
  });
}

/** A page that a row sees: its address, which of its tokens, and where in the span's rows of scores it begins. */
interface SeenPage extends SpanRow, Named<"page first past at"> {
  readonly range: SeenRange;
}

/** Runs `each` for the pages of the span, and for each for the rows that see some of it. */
function forPages(code: SpanCode, start: Local<"i32">, each: (page: SeenPage) => void): void {
  const { body, p } = code;
  const { pageBytes, headBytes } = pagePlace(code);
  body.for(0, 4 * spanTokens, 4 * pageTokens, (at) => {
    const begin = body.local(i32.add(start, i32.shr_u(at, 2)));
    forRows(code, (row) => {
      for (const range of [row.sinks, row.window]) {
        const first = body.max(i32.sub(range.from, begin), 0);
        const past = body.min(i32.sub(range.to, begin), pageTokens);
        body.if(i32.lt_s(first, past), () => {
          const number = i32.load(i32.add(range.table, i32.shl(i32.shr_u(begin, 4), 2)));
          const inPage = i32.mul(p.kvHead, headBytes);
          const page = rowAt(body, i32.add(p.pages, inPage), number, pageBytes);
          each({ ...row, range, page, first, past, at });
        });
      }
    });
  });
}
