import type { StepLayout } from "../ir/step-layout.ts";
import type { Sequence } from "./sequence.ts";
import { sinkEnd, sinkPosition, windowStart, type Window } from "./window.ts";

/** A sequence in a forward: its pages are there, `rows` tokens are not yet part of its length. */
export interface Appended {
  readonly sequence: Sequence;
  readonly rows: number;
}

/** Says where the rows of a forward go and what they see. */
export function layoutStep(appended: readonly Appended[], copies: Int32Array): StepLayout {
  const pageTable = Int32Array.from(appended.flatMap(({ sequence }) => sequence.pages));
  const lastRows = new Int32Array(appended.length);
  const places: { sequence: Sequence; position: number; table: number }[] = [];
  let table = 0;
  appended.forEach(({ sequence, rows }, at) => {
    for (let row = 0; row < rows; row++)
      places.push({ sequence, position: sequence.length + row, table });
    table += sequence.pages.length;
    lastRows[at] = places.length - 1;
  });
  const column = (value: (place: (typeof places)[number]) => number): Int32Array =>
    Int32Array.from(places, value);
  const windowed = (value: (window: Window, position: number) => number): Int32Array =>
    column(({ sequence, position }) => value(sequence.window, position));
  return {
    rows: places.length,
    positions: column(({ position }) => position),
    slots: column(({ sequence, position }) => sequence.slotOf(position)),
    sinkPositions: windowed(sinkPosition),
    sinkEnds: windowed(sinkEnd),
    windowStarts: windowed(windowStart),
    sinkTables: column(({ table }) => table),
    windowTables: column(({ table, sequence }) => table - sequence.passed),
    pageTable,
    lastRows,
    copies,
  };
}
