/**
 * What one forward tells a device about the paged cache: where each row's key and value go and which keys it sees.
 * Rows are the tokens of the step, all sequences concatenated. The window contract is in `runtime/window.ts`.
 */
export interface StepLayout {
  readonly rows: number;
  /** [rows] absolute position of each token. */
  readonly positions: Int32Array;
  /** [rows] page × pageTokens + offset: the place of the row's key and value. */
  readonly slots: Int32Array;
  /** [rows] position at which the query is turned to see sink keys. */
  readonly sinkPositions: Int32Array;
  /** [rows] keys before this position are seen as sinks. */
  readonly sinkEnds: Int32Array;
  /** [rows] first key visible in the window. */
  readonly windowStarts: Int32Array;
  /** [rows] index into pageTable that, plus an absolute page number, gives a sink page. */
  readonly sinkTables: Int32Array;
  /** [rows] the same for the pages of the window; may be negative. */
  readonly windowTables: Int32Array;
  /** Held pages of all sequences of the step, concatenated. */
  readonly pageTable: Int32Array;
  /** [sequences] the row of each sequence's last token. */
  readonly lastRows: Int32Array;
  /** Pairs (from page, to page) to copy before the step, in this order. */
  readonly copies: Int32Array;
}

/** Copies pages of `size` elements of a plane that holds all. */
export function copyPages(
  plane: Float32Array | Uint8Array,
  size: number,
  copies: Int32Array,
): void {
  for (let at = 0; at < copies.length; at += 2)
    plane.copyWithin(copies[at + 1] * size, copies[at] * size, (copies[at] + 1) * size);
}
