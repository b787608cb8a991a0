import { f32x4, i32, memory, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, FuncRef, Local, WasmModule } from "../../codegen/wasm/builder.ts";
import { pagePlace, pageTokens } from "../../quant/kv-page.ts";
import { internal, type Named } from "../program.ts";
import {
  emitCopyVisible,
  emitScores,
  emitValues,
  emitWeights,
  emitWiden,
  groupOf,
  hiddenScore,
  planeBytes,
  scoresBytes,
  spanTokens,
  type AttendSpec,
} from "./attend-page.ts";
import {
  attendParams,
  larger,
  loadRow,
  seesSpan,
  smaller,
  spanShift,
  type Row,
  type SeenRange,
} from "./attend-row.ts";

/** A record is o [group][headDim], m [group], l [group] in f32, for the query heads that share a KV head. */
export const recordBytes = (spec: AttendSpec): number => groupOf(spec) * (spec.headDim + 2) * 4;

/** Most rows that go through the pages of a span together. */
export const mostBlockRows = 16;

/** Scratch of a span: scores of each row, those of a page that is seen in part, keys or values of a page as f32. */
export const spanScratchBytes = (spec: AttendSpec): number =>
  (mostBlockRows + 1) * scoresBytes(spec) + planeBytes(spec);

const spanParams = `${attendParams} first past span kvHead record` as const;
type Params = Named<typeof spanParams>;

/**
 * The keys of one span and one KV head that the rows `first` … `past` − 1 see, into records one behind the other; that of a row that
 * sees none is left as it is. Page after page is read, for all rows.
 */
export function emitSpan(module: WasmModule, spec: AttendSpec): FuncRef<"void"> {
  const scores = emitScores(module, spec);
  const copy = emitCopyVisible(module, spec);
  const weights = emitWeights(module, spec);
  const values = emitValues(module, spec);
  const widen = spec.kv === "f32" ? undefined : emitWiden(module, spec);
  const place = pagePlace(spec);
  const oBytes = groupOf(spec) * spec.headDim * 4;
  return internal(module, `span ${spec.mark}`, spanParams, (p, body) => {
    const start = body.local(i32.shl(p.span, spanShift));
    const partial = body.local(i32.add(p.scratch, mostBlockRows * scoresBytes(spec)));
    const wide = body.local(i32.add(partial, scoresBytes(spec)));
    const widened = body.local(i32.const(-1));
    const widely = (plane: Local<"i32">): Local<"i32"> => {
      if (!widen) return plane;
      body.if(i32.ne(plane, widened), () => {
        body.emit(widen.call(plane, wide));
        widened.set(plane);
      });
      return wide;
    };
    forRows(body, spec, p, ({ scores, record }) => {
      const hidden = f32x4.const(Array(4).fill(hiddenScore));
      body.for(0, scoresBytes(spec), 16, (at) =>
        body.emit(v128.store(i32.add(scores, at), hidden)),
      );
      body.emit(memory.fill(record, 0, oBytes));
    });
    forPages(body, spec, p, start, ({ page, first, past, at, range, scores: all }) => {
      const keys = widely(page);
      const to = body.local(i32.add(all, at));
      const queries = i32.add(range.queries, i32.mul(p.kvHead, oBytes));
      const isWhole = i32.eq(i32.sub(past, first), pageTokens);
      const copied = (): void => {
        body.emit(scores.call(queries, keys, page, partial));
        body.emit(copy.call(first, past, partial, to));
      };
      body.if(isWhole, () => body.emit(scores.call(queries, keys, page, to)), copied);
    });
    forRows(body, spec, p, ({ row, scores, record }) => {
      // Whole pages of scores: beyond them all are hidden.
      const [sinks, window] = row.ranges;
      const to = larger(body, sinks.to, window.to);
      const seen = smaller(body, i32.sub(to, start), i32.const(spanTokens));
      const bytes = i32.shl(i32.shr_u(i32.add(seen, pageTokens - 1), 4), 6);
      body.emit(weights.call(scores, bytes, i32.add(record, oBytes)));
    });
    forPages(body, spec, p, start, ({ page, first, past, at, scores, record }) => {
      const plane = widely(body.local(i32.add(page, place.values)));
      body.emit(values.call(i32.add(scores, at), plane, page, first, past, record));
    });
  });
}

interface SpanRow {
  readonly row: Row;
  readonly scores: Local<"i32">;
  readonly record: Local<"i32">;
}

/** Runs `each` for the rows that see the span. */
function forRows(body: Body, spec: AttendSpec, p: Params, each: (row: SpanRow) => void): void {
  const [scores, record] = [body.local(p.scratch), body.local(p.record)];
  body.for(p.first, p.past, 1, (index) => {
    const row = loadRow(body, spec, p, index);
    body.if(seesSpan(row, p.span), () => each({ row, scores, record }));
    scores.set(i32.add(scores, scoresBytes(spec)));
    record.set(i32.add(record, recordBytes(spec)));
  });
}

/** A page that a row sees: its address, which of its tokens, and where in the span's rows of scores it begins. */
interface SeenPage extends SpanRow {
  readonly range: SeenRange;
  readonly page: Local<"i32">;
  readonly first: Local<"i32">;
  readonly past: Local<"i32">;
  readonly at: Local<"i32">;
}

/** Runs `each` for the pages of the span, and for each for the rows that see some of it. */
function forPages(
  body: Body,
  spec: AttendSpec,
  p: Params,
  start: Local<"i32">,
  each: (page: SeenPage) => void,
): void {
  const { pageBytes, headBytes } = pagePlace(spec);
  body.for(0, 4 * spanTokens, 4 * pageTokens, (at) => {
    const begin = body.local(i32.add(start, i32.shr_u(at, 2)));
    forRows(body, spec, p, (row) => {
      for (const range of row.row.ranges) {
        const first = larger(body, i32.sub(range.from, begin), i32.const(0));
        const past = smaller(body, i32.sub(range.to, begin), i32.const(pageTokens));
        body.if(i32.lt_s(first, past), () => {
          const number = i32.load(i32.add(range.table, i32.shl(i32.shr_u(begin, 4), 2)));
          const inPage = i32.mul(p.kvHead, headBytes);
          const page = i32.add(i32.add(p.pages, inPage), i32.mul(number, pageBytes));
          each({ ...row, range, page: body.local(page), first, past, at });
        });
      }
    });
  });
}
