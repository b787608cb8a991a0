import type { StepLayout } from "../../src/ir/step-layout.ts";
import { pageTokens } from "../../src/quant/kv-page.ts";

/** W keys with S sinks (DESIGN §3); `undefined`: every row sees all before it. */
export interface Window {
  readonly size: number;
  readonly sinks: number;
}

/** One sequence of a test: its pages by absolute number, in any order in the pool. */
export interface Sequence {
  readonly pages: readonly number[];
  readonly window?: Window;
}

/** Tokens `start` … `start` + `count` − 1 of a sequence. */
export interface Append {
  readonly sequence: Sequence;
  readonly start: number;
  readonly count: number;
}

/** The layout of a step, written down from the contract. Pages that no row of the step sees are left out of the table. */
export function layoutOf(appends: readonly Append[]): StepLayout {
  const rows = appends.flatMap((append) => rowsOf(append));
  const column = (key: keyof Row): Int32Array => Int32Array.from(rows.map((row) => row[key]));
  const tables = appends.map((append) => pagesHeld(append));
  const starts = tables.map((_, at) =>
    tables.slice(0, at).reduce((sum, { pages }) => sum + pages.length, 0),
  );
  const perRow = (value: (at: number) => number): Int32Array =>
    Int32Array.from(appends.flatMap(({ count }, at) => Array<number>(count).fill(value(at))));
  let last = -1;
  return {
    rows: rows.length,
    positions: column("position"),
    slots: column("slot"),
    sinkPositions: column("sinkPosition"),
    sinkEnds: column("sinkEnd"),
    windowStarts: column("windowStart"),
    sinkTables: perRow((at) => starts[at]),
    windowTables: perRow((at) => starts[at] - tables[at].dropped),
    pageTable: Int32Array.from(tables.flatMap(({ pages }) => pages)),
    lastRows: Int32Array.from(appends.map(({ count }) => (last += count))),
    copies: new Int32Array(),
  };
}

interface Row {
  readonly position: number;
  readonly slot: number;
  readonly sinkPosition: number;
  readonly sinkEnd: number;
  readonly windowStart: number;
}

const rowsOf = ({ sequence: { pages, window }, start, count }: Append): Row[] =>
  Array.from({ length: count }, (_, i) => {
    const position = start + i;
    return {
      position,
      slot: pages[Math.floor(position / pageTokens)] * pageTokens + (position % pageTokens),
      sinkPosition: window ? Math.min(position, window.size - 1) : position,
      sinkEnd: window ? Math.min(window.sinks, position + 1) : 0,
      windowStart: window ? Math.max(0, position - (window.size - window.sinks) + 1) : 0,
    };
  });

/** Sink pages, then those from the first that the first row's window sees; `dropped` pages lie between. */
function pagesHeld(append: Append): { pages: readonly number[]; dropped: number } {
  const { sequence, start, count } = append;
  const past = Math.ceil((start + count) / pageTokens);
  const sinkPages = Math.ceil((sequence.window?.sinks ?? 0) / pageTokens);
  const first = Math.floor((rowsOf({ ...append, count: 1 })[0]?.windowStart ?? 0) / pageTokens);
  const dropped = Math.max(0, first - sinkPages);
  const pages = [
    ...sequence.pages.slice(0, sinkPages),
    ...sequence.pages.slice(sinkPages + dropped, past),
  ];
  return { pages, dropped };
}
