import { f32, f32x4, i32, integers, memory, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, FuncRef, Local, Locals, WasmModule } from "../../codegen/wasm/builder.ts";
import { expF32x4 } from "../../codegen/wasm/math.ts";
import { pagePlace } from "../../quant/kv-page.ts";
import { groupOf, hiddenScore, spanTokens, type AttendSpec } from "./attend-page.ts";
import { emitSpan, recordBytes, spanScratchBytes } from "./attend-span.ts";
import { forQuads, storeLanes } from "./pages.ts";

/**
 * Attention with an online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867) in a fixed order: keys in spans of 128
 * positions, aligned to absolute positions. Each span gives a record (o, m, l); records are merged in order. So a row's bits do
 * not depend on the other rows, on threads, or on which variant runs:
 *
 *   few rows   threads share (row, KV head, span); records go to a buffer and a second program merges them
 *   many rows  threads share (row, KV head) and merge as they go
 */
const attendParams = integers(
  "queries y records rows pages positions sinkEnds windowStarts sinkTables windowTables pageTable thread threads scratch",
);
type Params = Locals<typeof attendParams>;
const spanShift = Math.log2(spanTokens);

/** Spans that a row can see, for a bound on the records. */
export const mostSpans = (keys: number): number => Math.ceil(keys / spanTokens) + 2;

/** Scratch of a thread: that of a span, one record. */
export const attendScratchBytes = (spec: AttendSpec): number =>
  spanScratchBytes(spec) + recordBytes(spec);

/** What a row sees, and its queries. */
interface Row {
  readonly windowEnd: Local<"i32">;
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
    windowEnd: body.local(i32.add(position, 1)),
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

interface SpanOfRow {
  readonly row: Row;
  readonly kvHead: Local<"i32">;
  readonly span: Local<"i32">;
  readonly record: Local<"i32">;
}

function callSpan(
  body: Body,
  spec: AttendSpec,
  p: Params,
  call: FuncRef<"void">,
  at: SpanOfRow,
): void {
  const { row, kvHead, span, record } = at;
  const queries = i32.mul(kvHead, groupOf(spec) * spec.headDim * 4);
  const pages = i32.add(p.pages, i32.mul(kvHead, pagePlace(spec).headBytes));
  const { sinkEnd, sinkTable, windowStart, windowEnd, windowTable } = row;
  const seen = [sinkEnd, sinkTable, windowStart, windowEnd, windowTable];
  const start = i32.shl(span, spanShift);
  body.emit(call.call(start, i32.add(row.queries, queries), pages, ...seen, record, p.scratch));
}

/** Many rows: threads take turns at (KV head, row), rows of one head after another, which share keys and values. */
export function emitAttend(module: WasmModule, name: string, spec: AttendSpec): void {
  const call = emitSpan(module, `${name}:span`, spec);
  module.func(name, attendParams, "void", (p, body) => {
    const record = body.local(i32.add(p.scratch, spanScratchBytes(spec)));
    const tasks = body.local(i32.mul(p.rows, spec.kvHeads));
    body.for(p.thread, tasks, p.threads, (task) => {
      const kvHead = body.local(i32.div_u(task, p.rows));
      const rowIndex = body.local(i32.sub(task, i32.mul(kvHead, p.rows)));
      const row = loadRow(body, spec, p, rowIndex);
      const y = outputOf(body, spec, p, rowIndex, kvHead);
      const state = startMerge(body, spec, y);
      forSpans(body, row, (span) => {
        callSpan(body, spec, p, call, { row, kvHead, span, record });
        emitMerge(body, spec, record, y, state);
      });
      finishMerge(body, spec, y, state);
    });
  });
}

const outputOf = (
  body: Body,
  spec: AttendSpec,
  p: Params,
  row: Local<"i32">,
  kvHead: Local<"i32">,
): Local<"i32"> => {
  const task = i32.add(i32.mul(row, spec.kvHeads), kvHead);
  return body.local(i32.add(p.y, i32.mul(task, groupOf(spec) * spec.headDim * 4)));
};

/** Few rows: threads take turns at (row, KV head, span); the n-th span of task t has its record at t × most + n. */
export function emitAttendSpans(
  module: WasmModule,
  name: string,
  spec: AttendSpec,
  most: number,
): void {
  const call = emitSpan(module, `${name}:span`, spec);
  module.func(name, attendParams, "void", (p, body) => {
    const turn = body.local(i32.const(0));
    body.for(0, p.rows, 1, (index) => {
      const row = loadRow(body, spec, p, index);
      const first = recordOf(body, spec, p, i32.mul(index, spec.kvHeads), most);
      forSpans(body, row, (span) => {
        const record = body.local(first);
        body.for(0, spec.kvHeads, 1, (kvHead) => {
          body.if(i32.eq(turn, p.thread), () =>
            callSpan(body, spec, p, call, { row, kvHead, span, record }),
          );
          turn.set(i32.add(turn, 1));
          body.if(i32.eq(turn, p.threads), () => turn.set(i32.const(0)));
          record.set(i32.add(record, most * recordBytes(spec)));
        });
        first.set(i32.add(first, recordBytes(spec)));
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
    forTasks(body, spec, p, ({ row, index, kvHead, task }) => {
      body.if(i32.eq(i32.rem_u(task, p.threads), p.thread), () => {
        const record = recordOf(body, spec, p, task, most);
        const y = outputOf(body, spec, p, index, kvHead);
        const state = startMerge(body, spec, y);
        forSpans(body, row, () => {
          emitMerge(body, spec, record, y, state);
          record.set(i32.add(record, recordBytes(spec)));
        });
        finishMerge(body, spec, y, state);
      });
    });
  });
}

interface Task {
  readonly row: Row;
  readonly index: Local<"i32">;
  readonly kvHead: Local<"i32">;
  readonly task: Local<"i32">;
}
function forTasks(body: Body, spec: AttendSpec, p: Params, each: (task: Task) => void): void {
  const task = body.local(i32.const(0));
  body.for(0, p.rows, 1, (index) => {
    const row = loadRow(body, spec, p, index);
    body.for(0, spec.kvHeads, 1, (kvHead) => {
      each({ row, index, kvHead, task });
      task.set(i32.add(task, 1));
    });
  });
}

const recordOf = (
  body: Body,
  spec: AttendSpec,
  p: Params,
  task: Expr<"i32">,
  most: number,
): Local<"i32"> => body.local(i32.add(p.records, i32.mul(task, most * recordBytes(spec))));

/** Running m and l of the heads of a group; the running o is the row of y. */
interface MergeState {
  readonly m: readonly Local<"f32">[];
  readonly l: readonly Local<"f32">[];
}

function startMerge(body: Body, spec: AttendSpec, y: Local<"i32">): MergeState {
  const heads = Array.from({ length: groupOf(spec) });
  body.emit(memory.fill(y, 0, groupOf(spec) * spec.headDim * 4));
  return {
    m: heads.map(() => body.local(f32.const(hiddenScore))),
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
