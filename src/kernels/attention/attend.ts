import { f32, f32x4, i32, memory, v128 } from "../../codegen/wasm/builder.ts";
import type { Expr, Local } from "../../codegen/wasm/builder.ts";
import { expF32x4 } from "../../codegen/wasm/math.ts";
import { Capture } from "../../ir/graph.ts";
import { attend, placeholder } from "../../ops/index.ts";
import { attrOf, inputOf, rowsOf, type Kernel } from "../kernel.ts";
import { callOf, fewRows, forTickets, nextTicket, rowAt, stepFor, type Named } from "../program.ts";
import { hiddenScore, spanTokens, type AttendSpec } from "./attend-page.ts";
import { emitSpan, forSpans, loadRow, mostBlockRows } from "./attend-span.ts";
import { recordBytes, seesSpan, spanScratchBytes } from "./attend-span.ts";
import type { Code, SeenSpans } from "./attend-span.ts";
import { anyShape, cache, forQuads, pagesOf, shapeOf, storeLanes, tables } from "./pages.ts";

/**
 * Attention with an online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867) in a fixed order: keys in spans of 128
 * positions, aligned to absolute positions. Each span gives a record (o, m, l); records are merged in order. So a row's bits do
 * not depend on the other rows, on threads, or on which variant runs:
 *
 *   few rows   threads share (row, KV head, span); records go to a buffer and a second program merges them
 *   many rows  threads share (KV head, block of rows) and merge as they go; a page is made f32 once for the rows of a block
 */

export const attendKernel: Kernel = {
  meaning: attend(placeholder("queries"), cache, { ...anyShape, scale: new Capture("scale") }),
  lower: (use, at) => {
    const [shape, scale] = [shapeOf(use), attrOf(use, "scale")];
    const mark = `${shape.mark} ${scale}`;
    const { revectorize } = at.features;
    // a bound: whole spans, and two of which a row sees a part
    const mostSpans = Math.ceil(at.maxKeys / spanTokens) + 2;
    const spec = { ...shape, scale, revectorize, mostSpans, mark };
    at.scratch(scratchBytes(spec));
    at.takeTurns();
    const rows = rowsOf(use.root);
    const recordsBytes = fewRows * spec.kvHeads * spec.mostSpans * recordBytes(spec);
    const [queries, records] = [inputOf(use, "queries"), at.temporary("records", recordsBytes)];
    // in the order of `attendParams`: spans are given the same
    const own = { queries, y: use.root, records, rows, pages: pagesOf(use) };
    const seen = tables("positions", "sinkEnds", "windowStarts");
    const given = { ...own, ...seen, ...tables("sinkTables", "windowTables", "pageTable") };
    const callTo = (kind: keyof typeof programs) =>
      callOf(at, `${kind} ${mark}`, given, (func) => programs[kind]({ ...func, ...spec }));
    const many = callTo("attend");
    const few = callTo("attend-spans");
    const merge = callTo("attend-merge");
    const step = stepFor("attend", rows, { few: [few], many: [many] });
    return [step, stepFor("attend-merge", rows, { few: [merge] })];
  },
};

const programs = { attend: emitBlocks, "attend-spans": emitSpans, "attend-merge": emitMerge };

/** Blocks that each thread has at least, so that all have as much to do. */
const blocksOfThread = 4;

/** Scratch of a thread: that of a span of a block of rows, a record of each, m and l of each. */
const scratchBytes = (spec: AttendSpec): number =>
  spanScratchBytes(spec) + mostBlockRows * (recordBytes(spec) + stateBytes(spec));

/** Many rows: threads take turns at (KV head, block of rows), blocks of one head after another, which share keys and values. */
function emitBlocks(code: Code): void {
  const { body, p } = code;
  const compute = emitSpan(code);
  const records = body.at(p.scratch, spanScratchBytes(code));
  const states = body.at(records, mostBlockRows * recordBytes(code));
  const shares = i32.mul(p.threads, blocksOfThread);
  const fair = i32.div_u(i32.mul(p.rows, code.kvHeads), shares);
  const size = body.max(body.min(fair, mostBlockRows), 1);
  const blocks = body.local(i32.div_u(i32.sub(i32.add(p.rows, size), 1), size));
  const tasks = body.local(i32.mul(blocks, code.kvHeads));
  const task = body.local(nextTicket());
  forTickets(body, task, tasks, () => {
    const kvHead = body.local(i32.div_u(task, blocks));
    const block = i32.sub(task, i32.mul(kvHead, blocks));
    const first = body.local(i32.mul(block, size));
    const past = body.min(i32.add(first, size), p.rows);
    const all = seenByAll(code, first, past);
    const forRows = (each: (row: Named<"index record y state">) => void): void => {
      const [record, state] = [body.local(records), body.local(states)];
      body.for(first, past, 1, (index) => {
        each({ index, record, y: outputOf(code, index, kvHead), state });
        record.set(i32.add(record, recordBytes(code)));
        state.set(i32.add(state, stateBytes(code)));
      });
    };
    forRows((row) => startMerge(code, row));
    forSpans(body, all, (span) => {
      body.emit(compute.call(...Object.values(p), first, past, span, kvHead, records));
      forRows((row) => {
        const seen = seesSpan(loadRow(code, row.index), span);
        body.if(seen, () => addRecord(code, row, row.record));
      });
    });
    forRows((row) => finishMerge(code, row));
  });
}

/** The spans that any of the rows sees. */
function seenByAll(code: Code, first: Local<"i32">, past: Local<"i32">): SeenSpans {
  const { body } = code;
  const { sinkSpans, firstSpan, lastSpan } = loadRow(code, first);
  body.for(i32.add(first, 1), past, 1, (index) => {
    const row = loadRow(code, index);
    sinkSpans.set(body.max(sinkSpans, row.sinkSpans));
    firstSpan.set(body.min(firstSpan, row.firstSpan));
    lastSpan.set(body.max(lastSpan, row.lastSpan));
  });
  return { sinkSpans, firstSpan: body.max(firstSpan, sinkSpans), lastSpan };
}

/** Few rows: threads take turns at (row, span, KV head); the n-th span of task t has its record at t × mostSpans + n. */
function emitSpans(code: Code): void {
  const { body, p } = code;
  const compute = emitSpan(code);
  const [ticket, before] = [body.local(nextTicket()), body.local(i32.const(0))];
  body.for(0, p.rows, 1, (index) => {
    const row = loadRow(code, index);
    const past = body.local(i32.add(index, 1));
    const spans = i32.add(row.sinkSpans, i32.sub(i32.add(row.lastSpan, 1), row.firstSpan));
    const end = body.local(i32.add(before, i32.mul(spans, code.kvHeads)));
    forTickets(body, ticket, end, () => {
      const task = body.local(i32.sub(ticket, before));
      const nth = body.local(i32.div_u(task, code.kvHeads));
      const kvHead = body.local(i32.rem_u(task, code.kvHeads));
      const record = recordOf(code, i32.add(i32.mul(index, code.kvHeads), kvHead));
      record.set(i32.add(record, i32.mul(nth, recordBytes(code))));
      const behind = i32.add(i32.sub(nth, row.sinkSpans), row.firstSpan);
      const span = body.local(nth);
      body.if(i32.ge_s(nth, row.sinkSpans), () => span.set(behind));
      body.emit(compute.call(...Object.values(p), index, past, span, kvHead, record));
    });
    before.set(end);
  });
}

/** Merges the records of `emitSpans`. */
function emitMerge(code: Code): void {
  const { body, p } = code;
  const task = body.local(i32.const(0));
  body.for(0, p.rows, 1, (index) => {
    const row = loadRow(code, index);
    body.for(0, code.kvHeads, 1, (kvHead) => {
      body.if(i32.eq(i32.rem_u(task, p.threads), p.thread), () => {
        const record = recordOf(code, task);
        const at = { y: outputOf(code, index, kvHead), state: p.scratch };
        startMerge(code, at);
        forSpans(body, row, () => {
          addRecord(code, at, record);
          record.set(i32.add(record, recordBytes(code)));
        });
        finishMerge(code, at);
      });
      task.set(i32.add(task, 1));
    });
  });
}

const recordOf = (code: Code, task: Expr<"i32">): Local<"i32"> =>
  rowAt(code.body, code.p.records, task, code.mostSpans * recordBytes(code));

function outputOf(code: Code, row: Local<"i32">, kvHead: Local<"i32">): Local<"i32"> {
  const task = i32.add(i32.mul(row, code.kvHeads), kvHead);
  return rowAt(code.body, code.p.y, task, code.group * code.headDim * 4);
}

/** Running (o, m, l) of the heads of a group: o is the row of y, m and l [group] each are at `state`. */
type MergePlace = Named<"y state">;
const stateBytes = ({ group }: AttendSpec): number => 8 * group;

function startMerge({ body, group, headDim }: Code, { y, state }: MergePlace): void {
  body.emit(memory.fill(y, 0, group * headDim * 4));
  for (let g = 0; g < group; g++) {
    body.emit(f32.store(state, f32.const(hiddenScore), 4 * g));
    body.emit(f32.store(state, f32.const(0), 4 * (group + g)));
  }
}

/** (o, m, l) of y and of a record, both brought to the larger m, added. */
function addRecord(code: Code, { y, state }: MergePlace, record: Local<"i32">): void {
  const { body, group, headDim } = code;
  const head = headDim * 4;
  for (let g = 0; g < group; g++) {
    const [mAt, lAt] = [4 * g, 4 * (group + g)];
    const m = body.local(f32.load(state, mAt));
    const theirs = body.local(f32.load(record, group * head + mAt));
    const most = body.local(f32.max(m, theirs));
    const differences = f32x4.replace_lane(f32x4.splat(f32.sub(m, most)), f32.sub(theirs, most), 1);
    const factors = expF32x4(body, differences);
    const [mine, their] = [0, 1].map((lane) => body.local(f32x4.extract_lane(factors, lane)));
    body.emit(f32.store(state, most, mAt));
    const length = f32.mul(f32.load(record, group * head + lAt), their);
    body.emit(f32.store(state, f32.add(f32.mul(f32.load(state, lAt), mine), length), lAt));
    const [mines, theirsAll] = [body.local(f32x4.splat(mine)), body.local(f32x4.splat(their))];
    forQuads(body, headDim, (at, lanes) => {
      const to = body.at(y, at);
      const kept = f32x4.mul(v128.load(to, g * head), mines);
      const added = f32x4.mul(v128.load(i32.add(record, at), g * head), theirsAll);
      body.emit(storeLanes(lanes, to, f32x4.add(kept, added), g * head));
    });
  }
}

function finishMerge({ body, group, headDim }: Code, { y, state }: MergePlace): void {
  const head = headDim * 4;
  for (let g = 0; g < group; g++) {
    const length = f32.load(state, 4 * (group + g));
    const inverse = body.local(f32x4.splat(f32.div(f32.const(1), length)));
    forQuads(body, headDim, (at, lanes) => {
      const to = body.at(y, at);
      body.emit(storeLanes(lanes, to, f32x4.mul(v128.load(to, g * head), inverse), g * head));
    });
  }
}
