import type { StepLayout } from "../ir/step-layout.ts";
import type { Sequence } from "./sequence.ts";
import { sinkEnd, sinkPosition, windowStart } from "./window.ts";

/** A sequence in a forward: its pages are there, `rows` tokens are not yet part of its length. */
export interface Appended {
  readonly sequence: Sequence;
  readonly rows: number;
}

/** Says where the rows of a forward go and what they see. */
export function layoutStep(appended: readonly Appended[], copies: Int32Array): StepLayout {
  const rows = appended.reduce((sum, { rows }) => sum + rows, 0);
  const pages = appended.reduce((sum, { sequence }) => sum + sequence.pages.length, 0);
  const layout = {
    rows,
    positions: new Int32Array(rows),
    slots: new Int32Array(rows),
    sinkPositions: new Int32Array(rows),
    sinkEnds: new Int32Array(rows),
    windowStarts: new Int32Array(rows),
    sinkTables: new Int32Array(rows),
    windowTables: new Int32Array(rows),
    pageTable: new Int32Array(pages),
    lastRows: new Int32Array(appended.length),
    copies,
  };
  let row = 0;
  let table = 0;
  appended.forEach(({ sequence, rows }, at) => {
    const { length, window, passed } = sequence;
    layout.pageTable.set(sequence.pages, table);
    for (let position = length; position < length + rows; position++, row++) {
      layout.positions[row] = position;
      layout.slots[row] = sequence.slotOf(position);
      layout.sinkPositions[row] = sinkPosition(window, position);
      layout.sinkEnds[row] = sinkEnd(window, position);
      layout.windowStarts[row] = windowStart(window, position);
      layout.sinkTables[row] = table;
      layout.windowTables[row] = table - passed;
    }
    table += sequence.pages.length;
    layout.lastRows[at] = row - 1;
  });
  return layout;
}
