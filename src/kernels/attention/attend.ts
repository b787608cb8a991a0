import { i32, integers } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local, WasmModule } from "../../codegen/wasm/builder.ts";
import { forTickets, nextTicket } from "../program.ts";
import { emitMerge, finishMerge, startMerge, stateBytes } from "./attend-merge.ts";
import type { MergePlace } from "./attend-merge.ts";
import { groupOf, spanTokens, type AttendSpec } from "./attend-page.ts";
import { attendParams, forSpans, larger, loadRow, seesSpan, smaller } from "./attend-row.ts";
import type { AttendParams, SeenSpans } from "./attend-row.ts";
import { emitSpan, mostBlockRows, recordBytes, spanScratchBytes } from "./attend-span.ts";

/**
 * Attention with an online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867) in a fixed order: keys in spans of 128
 * positions, aligned to absolute positions. Each span gives a record (o, m, l); records are merged in order. So a row's bits do
 * not depend on the other rows, on threads, or on which variant runs:
 *
 *   few rows   threads share (row, KV head, span); records go to a buffer and a second program merges them
 *   many rows  threads share (KV head, block of rows) and merge as they go; a page is made f32 once for the rows of a block
 */

/** Spans that a row can see, for a bound on the records. */
export const mostSpans = (keys: number): number => Math.ceil(keys / spanTokens) + 2;

/** Blocks that each thread has at least, so that all have as much to do. */
const blocksOfThread = 4;

/** Scratch of a thread: that of a span of a block of rows, a record of each, m and l of each. */
export const attendScratchBytes = (spec: AttendSpec): number =>
  spanScratchBytes(spec) + mostBlockRows * (recordBytes(spec) + stateBytes(spec));

/** Many rows: threads take turns at (KV head, block of rows), blocks of one head after another, which share keys and values. */
export function emitAttend(module: WasmModule, name: string, spec: AttendSpec): void {
  const call = emitSpan(module, spec);
  module.func(name, integers(attendParams), "void", (p, body) => {
    const records = body.local(i32.add(p.scratch, spanScratchBytes(spec)));
    const states = body.local(i32.add(records, mostBlockRows * recordBytes(spec)));
    const shares = i32.mul(p.threads, blocksOfThread);
    const fair = i32.div_u(i32.mul(p.rows, spec.kvHeads), shares);
    const size = larger(body, smaller(body, fair, i32.const(mostBlockRows)), i32.const(1));
    const blocks = body.local(i32.div_u(i32.sub(i32.add(p.rows, size), 1), size));
    const tasks = body.local(i32.mul(blocks, spec.kvHeads));
    const task = body.local(nextTicket());
    forTickets(body, task, tasks, () => {
      const kvHead = body.local(i32.div_u(task, blocks));
      const block = i32.sub(task, i32.mul(kvHead, blocks));
      const first = body.local(i32.mul(block, size));
      const past = smaller(body, i32.add(first, size), p.rows);
      const all = seenByAll(body, spec, p, first, past);
      const forRows = (each: (row: BlockRow) => void): void =>
        forBlockRows(body, spec, p, { first, past, kvHead, records, states }, each);
      forRows((row) => startMerge(body, spec, row));
      forSpans(body, all, (span) => {
        body.emit(call.call(...Object.values(p), first, past, span, kvHead, records));
        forRows((row) => {
          const { record } = row;
          const seen = seesSpan(loadRow(body, spec, p, row.index), span);
          body.if(seen, () => emitMerge(body, spec, record, row));
        });
      });
      forRows((row) => finishMerge(body, spec, row));
    });
  });
}

/** The spans that any of the rows sees. */
function seenByAll(
  body: Body,
  spec: AttendSpec,
  p: AttendParams,
  first: Local<"i32">,
  past: Local<"i32">,
): SeenSpans {
  const all = loadRow(body, spec, p, first);
  body.for(i32.add(first, 1), past, 1, (index) => {
    const row = loadRow(body, spec, p, index);
    all.sinkSpans.set(larger(body, all.sinkSpans, row.sinkSpans));
    all.firstSpan.set(smaller(body, all.firstSpan, row.firstSpan));
    all.lastSpan.set(larger(body, all.lastSpan, row.lastSpan));
  });
  return { ...all, firstSpan: larger(body, all.firstSpan, all.sinkSpans) };
}

/** A row of a block: its output, the running o, and where m and l are kept; its record of a span. */
interface BlockRow extends MergePlace {
  readonly index: Local<"i32">;
  readonly record: Local<"i32">;
}
interface Block {
  readonly first: Local<"i32">;
  readonly past: Local<"i32">;
  readonly kvHead: Local<"i32">;
  readonly records: Local<"i32">;
  readonly states: Local<"i32">;
}
function forBlockRows(
  body: Body,
  spec: AttendSpec,
  p: AttendParams,
  { first, past, kvHead, records, states }: Block,
  each: (row: BlockRow) => void,
): void {
  const [record, state] = [body.local(records), body.local(states)];
  body.for(first, past, 1, (index) => {
    each({ index, record, y: outputOf(body, spec, p, index, kvHead), state });
    record.set(i32.add(record, recordBytes(spec)));
    state.set(i32.add(state, stateBytes(spec)));
  });
}

const outputOf = (
  body: Body,
  spec: AttendSpec,
  p: AttendParams,
  row: Local<"i32">,
  kvHead: Local<"i32">,
): Local<"i32"> => {
  const task = i32.add(i32.mul(row, spec.kvHeads), kvHead);
  return body.local(i32.add(p.y, i32.mul(task, groupOf(spec) * spec.headDim * 4)));
};

/** Few rows: threads take turns at (row, span, KV head); the n-th span of task t has its record at t × most + n. */
export function emitAttendSpans(
  module: WasmModule,
  name: string,
  spec: AttendSpec,
  most: number,
): void {
  const call = emitSpan(module, spec);
  module.func(name, integers(attendParams), "void", (p, body) => {
    const [ticket, before] = [body.local(nextTicket()), body.local(i32.const(0))];
    body.for(0, p.rows, 1, (index) => {
      const row = loadRow(body, spec, p, index);
      const past = body.local(i32.add(index, 1));
      const spans = i32.add(row.sinkSpans, i32.sub(i32.add(row.lastSpan, 1), row.firstSpan));
      const end = body.local(i32.add(before, i32.mul(spans, spec.kvHeads)));
      forTickets(body, ticket, end, () => {
        const task = body.local(i32.sub(ticket, before));
        const nth = body.local(i32.div_u(task, spec.kvHeads));
        const kvHead = body.local(i32.rem_u(task, spec.kvHeads));
        const first = i32.add(i32.mul(index, spec.kvHeads), kvHead);
        const record = recordOf(body, spec, p, first, most);
        record.set(i32.add(record, i32.mul(nth, recordBytes(spec))));
        const behind = i32.add(i32.sub(nth, row.sinkSpans), row.firstSpan);
        const span = body.local(nth);
        body.if(i32.ge_s(nth, row.sinkSpans), () => span.set(behind));
        body.emit(call.call(...Object.values(p), index, past, span, kvHead, record));
      });
      before.set(end);
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
  module.func(name, integers(attendParams), "void", (p, body) => {
    const task = body.local(i32.const(0));
    body.for(0, p.rows, 1, (index) => {
      const row = loadRow(body, spec, p, index);
      body.for(0, spec.kvHeads, 1, (kvHead) => {
        body.if(i32.eq(i32.rem_u(task, p.threads), p.thread), () => {
          const record = recordOf(body, spec, p, task, most);
          const at = { y: outputOf(body, spec, p, index, kvHead), state: p.scratch };
          startMerge(body, spec, at);
          forSpans(body, row, () => {
            emitMerge(body, spec, record, at);
            record.set(i32.add(record, recordBytes(spec)));
          });
          finishMerge(body, spec, at);
        });
        task.set(i32.add(task, 1));
      });
    });
  });
}

const recordOf = (
  body: Body,
  spec: AttendSpec,
  p: AttendParams,
  task: Expr<"i32">,
  most: number,
): Local<"i32"> => body.local(i32.add(p.records, i32.mul(task, most * recordBytes(spec))));
