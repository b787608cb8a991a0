import type { StepLayout } from "../ir/step-layout.ts";
import type { Sequence } from "./sequence.ts";
import { sinkEnd, sinkPosition, windowStart, type Window } from "./window.ts";

/** Says where the rows of a forward go and what they see: the last `rows[i]` tokens of sequence i. */
export function layoutStep(
  sequences: readonly Sequence[],
  rows: readonly number[],
  copies: Int32Array,
): StepLayout {
  const places: { sequence: Sequence; position: number; table: number }[] = [];
  const pageTable: number[] = [];
  const lastRows = sequences.map((sequence, at) => {
    const table = pageTable.length;
    for (let position = sequence.length - rows[at]; position < sequence.length; position++)
      places.push({ sequence, position, table });
    for (const page of sequence.pages) pageTable.push(page);
    return places.length - 1;
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
    pageTable: Int32Array.from(pageTable),
    lastRows: Int32Array.from(lastRows),
    copies,
  };
}
