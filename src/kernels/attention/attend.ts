import { f32, f32x4, i32, memory, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local, WasmModule } from "../../codegen/wasm/builder.ts";
import { expF32x4 } from "../../codegen/wasm/math.ts";
import { emitPage, groupOf, type AttendSpec, type PageFunc } from "./attend-page.ts";
import { forQuads, storeLanes } from "./pages.ts";
import { pagePlace, pageTokens } from "../../quant/kv-page.ts";

/**
 * Attention with an online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867) in a fixed order: keys in pages of 16,
 * pages in spans of 128 positions, both aligned to absolute positions. Each span gives a record (o, m, l); records are merged
 * in order. So a row's bits do not depend on the other rows, on threads, or on which variant runs:
 *
 *   few rows   threads share (row, KV head, span); records go to a buffer and a second program merges them
 *   many rows  threads share (row, KV head) and merge as they go
 *
 * A record is o [group][headDim], m [group], l [group] in f32, for the `group` query heads that share a KV head.
 */
const spanTokens = 128;
const spanShift = 7;

const attendParams = {
  queries: "i32",
  y: "i32",
  records: "i32",
  rows: "i32",
  pages: "i32",
  positions: "i32",
  sinkEnds: "i32",
  windowStarts: "i32",
  sinkTables: "i32",
  windowTables: "i32",
  pageTable: "i32",
  thread: "i32",
  threads: "i32",
  scratch: "i32",
} as const;
type Params = { readonly [Name in keyof typeof attendParams]: Local<"i32"> };

export const attendRecordBytes = (spec: AttendSpec): number =>
  groupOf(spec) * (spec.headDim + 2) * 4;

/** Spans that a row can see, for a bound on the records. */
export const mostSpans = (keys: number): number => Math.ceil(keys / spanTokens) + 2;

/** Scratch of a thread: weights and factors of a page, one record. */
export const attendScratchBytes = (spec: AttendSpec): number =>
  groupOf(spec) * (pageTokens + 1) * 4 + 64 + attendRecordBytes(spec);
const recordInScratch = (spec: AttendSpec): number => groupOf(spec) * (pageTokens + 1) * 4 + 64;

/** What a row sees, and its queries of one KV head. */
interface Row {
  readonly position: Local<"i32">;
  readonly sinkEnd: Local<"i32">;
  readonly windowStart: Local<"i32">;
  readonly sinkTable: Local<"i32">;
  readonly windowTable: Local<"i32">;
  /** Spans [0, sinkSpans) hold the sinks; then [firstSpan, lastSpan] the window. */
  readonly sinkSpans: Local<"i32">;
  readonly firstSpan: Local<"i32">;
  readonly lastSpan: Local<"i32">;
  readonly queries: Local<"i32">;
}

function loadRow(body: Body, spec: AttendSpec, p: Params, row: Local<"i32">): Row {
  const at = body.local(i32.shl(row, 2));
  const load = (table: Local<"i32">): Local<"i32"> => body.local(i32.load(i32.add(table, at)));
  const position = load(p.positions);
  const sinkEnd = load(p.sinkEnds);
  const windowStart = load(p.windowStarts);
  body.if(i32.lt_s(windowStart, sinkEnd), () => windowStart.set(sinkEnd));
  const tableAt = (index: Local<"i32">): Local<"i32"> =>
    body.local(i32.add(p.pageTable, i32.shl(index, 2)));
  const sinkSpans = body.local(i32.shr_u(i32.add(sinkEnd, spanTokens - 1), spanShift));
  const firstSpan = body.local(i32.shr_u(windowStart, spanShift));
  body.if(i32.lt_s(firstSpan, sinkSpans), () => firstSpan.set(sinkSpans));
  return {
    position,
    sinkEnd,
    windowStart,
    sinkTable: tableAt(load(p.sinkTables)),
    windowTable: tableAt(load(p.windowTables)),
    sinkSpans,
    firstSpan,
    lastSpan: body.local(i32.shr_u(position, spanShift)),
    queries: body.local(i32.add(p.queries, i32.mul(row, 2 * spec.heads * spec.headDim * 4))),
  };
}

/** Runs `each` for every span that the row sees, in order. */
function forSpans(body: Body, row: Row, each: (span: Local<"i32">) => void): void {
  const span = body.local(i32.const(0));
  body.if(i32.eqz(row.sinkSpans), () => span.set(row.firstSpan));
  body.while(
    () => i32.le_s(span, row.lastSpan),
    () => {
      each(span);
      span.set(i32.add(span, 1));
      body.if(i32.and(i32.eq(span, row.sinkSpans), i32.lt_s(span, row.firstSpan)), () =>
        span.set(row.firstSpan),
      );
    },
  );
}

/** One span of one row and KV head into a record. */
function emitSpan(
  body: Body,
  spec: AttendSpec,
  p: Params,
  page: PageFunc,
  at: { row: Row; kvHead: Local<"i32">; span: Local<"i32">; record: Local<"i32"> },
): void {
  const { row, kvHead, span, record } = at;
  const group = groupOf(spec);
  const { pageBytes, headBytes } = pagePlace(spec);
  const oBytes = group * spec.headDim * 4;
  body.emit(memory.fill(record, 0, oBytes));
  for (let g = 0; g < group; g++) {
    body.emit(f32.store(record, f32.const(-1e30), oBytes + 4 * g));
    body.emit(f32.store(record, f32.const(0), oBytes + 4 * (group + g)));
  }
  const start = body.local(i32.shl(span, spanShift));
  const past = body.local(i32.add(start, spanTokens));
  const headQueries = body.local(i32.add(row.queries, i32.mul(kvHead, oBytes)));
  const headOffset = body.local(i32.add(p.pages, i32.mul(kvHead, headBytes)));
  const range = (
    from: Local<"i32">,
    to: Local<"i32">,
    table: Local<"i32">,
    queries: Expr<"i32">,
  ): void => {
    const q = body.local(queries);
    body.while(
      () => i32.lt_s(from, to),
      () => {
        const number = body.local(i32.shr_u(from, 4));
        const first = body.local(i32.shl(number, 4));
        const address = i32.add(
          headOffset,
          i32.mul(i32.load(i32.add(table, i32.shl(number, 2))), pageBytes),
        );
        const end = body.local(i32.sub(to, first));
        body.if(i32.gt_s(end, pageTokens), () => end.set(i32.const(pageTokens)));
        body.emit(page.call(q, address, record, i32.sub(from, first), end, p.scratch));
        from.set(i32.add(first, pageTokens));
      },
    );
  };
  const smaller = (a: Local<"i32">, b: Expr<"i32">): Local<"i32"> => {
    const least = body.local(b);
    body.if(i32.lt_s(a, least), () => least.set(a));
    return least;
  };
  const larger = (a: Local<"i32">, b: Expr<"i32">): Local<"i32"> => {
    const most = body.local(b);
    body.if(i32.gt_s(a, most), () => most.set(a));
    return most;
  };
  const sinkQueries = i32.add(headQueries, spec.heads * spec.headDim * 4);
  range(body.local(start), smaller(row.sinkEnd, past), row.sinkTable, sinkQueries);
  const windowEnd = smaller(past, i32.add(row.position, 1));
  range(larger(row.windowStart, start), windowEnd, row.windowTable, headQueries);
}

/** Many rows: threads take turns at (row, KV head). The running record is the row of y itself, with m and l in locals. */
export function emitAttend(module: WasmModule, name: string, spec: AttendSpec): void {
  const page = emitPage(module, `${name}:page`, spec);
  module.func(name, attendParams, "void", (p, body) => {
    const group = groupOf(spec);
    const record = body.local(i32.add(p.scratch, recordInScratch(spec)));
    const tasks = body.local(i32.mul(p.rows, spec.kvHeads));
    body.for(p.thread, tasks, p.threads, (task) => {
      const rowIndex = body.local(i32.div_u(task, spec.kvHeads));
      const kvHead = body.local(i32.sub(task, i32.mul(rowIndex, spec.kvHeads)));
      const row = loadRow(body, spec, p, rowIndex);
      const y = body.local(i32.add(p.y, i32.mul(task, group * spec.headDim * 4)));
      const state = startMerge(body, spec, y);
      forSpans(body, row, (span) => {
        emitSpan(body, spec, p, page, { row, kvHead, span, record });
        emitMerge(body, spec, record, y, state);
      });
      finishMerge(body, spec, y, state);
    });
  });
}

/** Few rows: threads take turns at (row, KV head, span); the n-th span of task t has its record at t × mostSpans + n. */
export function emitAttendSpans(
  module: WasmModule,
  name: string,
  spec: AttendSpec,
  most: number,
): void {
  const page = emitPage(module, `${name}:page`, spec);
  module.func(name, attendParams, "void", (p, body) => {
    const turn = body.local(i32.const(0));
    forTasks(body, spec, p, (row, kvHead, task) => {
      const record = recordOf(body, spec, p, task, most);
      forSpans(body, row, (span) => {
        body.if(i32.eq(turn, p.thread), () => {
          emitSpan(body, spec, p, page, { row, kvHead, span, record });
        });
        turn.set(i32.add(turn, 1));
        body.if(i32.eq(turn, p.threads), () => turn.set(i32.const(0)));
        record.set(i32.add(record, attendRecordBytes(spec)));
      });
    });
  });
}

/** Merges the records of `emitAttendSpans`. */
export function emitAttendMerge(
  module: WasmModule,
  name: string,
  spec: AttendSpec,
  most: number,
): void {
  module.func(name, attendParams, "void", (p, body) => {
    forTasks(body, spec, p, (row, _, task) => {
      body.if(i32.eq(i32.rem_u(task, p.threads), p.thread), () => {
        const record = recordOf(body, spec, p, task, most);
        const y = body.local(i32.add(p.y, i32.mul(task, groupOf(spec) * spec.headDim * 4)));
        const state = startMerge(body, spec, y);
        forSpans(body, row, () => {
          emitMerge(body, spec, record, y, state);
          record.set(i32.add(record, attendRecordBytes(spec)));
        });
        finishMerge(body, spec, y, state);
      });
    });
  });
}

function forTasks(
  body: Body,
  spec: AttendSpec,
  p: Params,
  each: (row: Row, kvHead: Local<"i32">, task: Local<"i32">) => void,
): void {
  const task = body.local(i32.const(0));
  body.for(0, p.rows, 1, (index) => {
    const row = loadRow(body, spec, p, index);
    body.for(0, spec.kvHeads, 1, (kvHead) => {
      each(row, kvHead, task);
      task.set(i32.add(task, 1));
    });
  });
}

const recordOf = (
  body: Body,
  spec: AttendSpec,
  p: Params,
  task: Local<"i32">,
  most: number,
): Local<"i32"> => body.local(i32.add(p.records, i32.mul(task, most * attendRecordBytes(spec))));

/** Running m and l of the heads of a group; the running o is the row of y. */
interface MergeState {
  readonly m: readonly Local<"f32">[];
  readonly l: readonly Local<"f32">[];
}

function startMerge(body: Body, spec: AttendSpec, y: Local<"i32">): MergeState {
  const heads = Array.from({ length: groupOf(spec) });
  body.emit(memory.fill(y, 0, groupOf(spec) * spec.headDim * 4));
  return {
    m: heads.map(() => body.local(f32.const(-1e30))),
    l: heads.map(() => body.local(f32.const(0))),
  };
}

/** (o, m, l) of y and of a record, both brought to the larger m, added. */
function emitMerge(
  body: Body,
  spec: AttendSpec,
  record: Local<"i32">,
  y: Local<"i32">,
  { m, l }: MergeState,
): void {
  const head = spec.headDim * 4;
  const group = groupOf(spec);
  for (let g = 0; g < group; g++) {
    const theirs = body.local(f32.load(record, group * head + 4 * g));
    const most = body.local(f32.max(m[g], theirs));
    const differences = f32x4.replace_lane(
      f32x4.splat(f32.sub(m[g], most)),
      f32.sub(theirs, most),
      1,
    );
    const factors = expF32x4(body, differences);
    const [mine, their] = [0, 1].map((lane) => body.local(f32x4.extract_lane(factors, lane)));
    m[g].set(most);
    const length = f32.load(record, group * (head + 4) + 4 * g);
    l[g].set(f32.add(f32.mul(l[g], mine), f32.mul(length, their)));
    const [mines, theirsAll] = [body.local(f32x4.splat(mine)), body.local(f32x4.splat(their))];
    forQuads(body, spec.headDim, (at, lanes) => {
      const to = body.local(i32.add(y, at));
      const kept = f32x4.mul(v128.load(to, g * head), mines);
      const added = f32x4.mul(v128.load(i32.add(record, at), g * head), theirsAll);
      body.emit(storeLanes(lanes, to, f32x4.add(kept, added), g * head));
    });
  }
}

function finishMerge(body: Body, spec: AttendSpec, y: Local<"i32">, { l }: MergeState): void {
  const head = spec.headDim * 4;
  l.forEach((length, g) => {
    const inverse = body.local(f32x4.splat(f32.div(f32.const(1), length)));
    forQuads(body, spec.headDim, (at, lanes) => {
      const to = body.local(i32.add(y, at));
      body.emit(storeLanes(lanes, to, f32x4.mul(v128.load(to, g * head), inverse), g * head));
    });
  });
}
