import { checkNumber } from "../base/limits.ts";

/** Positions are i32 in the tables of a step. */
export const mostTokens: number = 2 ** 31 - 1;

export const checkWhole = (what: string, value: number, least: number, most: number): number =>
  checkNumber(what, value, { least, most, whole: true });

/**
 * The windowed-attention contract (DESIGN §3), written here and nowhere else. With `size` W and `sinks` S, i the position of
 * a query, j of a key:
 *
 *   visible        j ≤ i and (j < S or i − j < W − S), so W keys at most
 *   distance       i − j for window keys, min(i, W − 1) − j for sink keys (StreamingLLM, arXiv 2309.17453)
 *
 * As long as i < W everything is visible at its true distance. There are no sink keys then, and the step is, bit for bit,
 * that of full attention; so a window may still be set on a sequence that is not longer than it. Full attention is the window
 * of Infinity.
 */
export type Window = Readonly<Record<"size" | "sinks", number>>;

export const fullWindow: Window = { size: Infinity, sinks: 0 };

export function slidingWindow(size: number, sinks: number): Window {
  checkWhole("window size", size, 1, mostTokens);
  checkWhole("window sinks (less than its size)", sinks, 0, size - 1);
  return { size, sinks };
}

/** Keys before this one are seen as sinks by the query at i. */
export const sinkEnd = ({ size, sinks }: Window, i: number): number => (i < size ? 0 : sinks);

/** The position at which the query at i is turned to see sink keys. */
export const sinkPosition = ({ size }: Window, i: number): number => Math.min(i, size - 1);

/** First key that the query at i sees as one of the window. With W 8, S 2: 0 … 0 for i < 8, then 3 4 5 … */
export const windowStart = ({ size, sinks }: Window, i: number): number =>
  i < size ? 0 : i - size + sinks + 1;

/** Pages that hold sinks; they are kept for ever. */
export const sinkPages = ({ sinks }: Window, pageTokens: number): number =>
  Math.ceil(sinks / pageTokens);

/** Pages after the sink pages that no query at `position` or later sees: all others must be held. */
export const passedPages = (window: Window, position: number, pageTokens: number): number => {
  const before = Math.floor(windowStart(window, position) / pageTokens);
  return Math.max(0, before - sinkPages(window, pageTokens));
};
