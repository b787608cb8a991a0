import { InputError } from "../base/errors.ts";

/**
 * The windowed-attention contract (DESIGN §3), written here and nowhere else. With `size` W and `sinks` S, i the position of
 * a query, j of a key:
 *
 *   visible        j ≤ i and (j < S or i − j < W − S), so W keys at most
 *   distance       i − j for window keys, min(i, W − 1) − j for sink keys (StreamingLLM, arXiv 2309.17453)
 *
 * As long as i < W everything is visible at its true distance. There are no sink keys then, and the step is, bit for bit,
 * that of full attention; so a window may still be set on a sequence that is not longer than it.
 */
export type Window =
  | { readonly kind: "full" }
  | { readonly kind: "sliding"; readonly size: number; readonly sinks: number };

export const fullWindow: Window = { kind: "full" };

export function slidingWindow(size: number, sinks: number): Window {
  if (!Number.isInteger(size) || size < 1)
    throw new InputError("window-size", `window size: expected an integer ≥ 1, got ${size}`);
  if (!Number.isInteger(sinks) || sinks < 0 || sinks >= size)
    throw new InputError(
      "window-sinks",
      `window sinks: expected an integer from 0 to ${size - 1} (less than the window), got ${sinks}`,
    );
  return { kind: "sliding", size, sinks };
}

/** The definition: whether the query at i sees the key at j. */
export const visible = (window: Window, i: number, j: number): boolean =>
  j <= i && (window.kind === "full" || j < window.sinks || i - j < window.size - window.sinks);

const slides = (window: Window, i: number): window is Extract<Window, { kind: "sliding" }> =>
  window.kind === "sliding" && i >= window.size;

/** Keys before this one are seen as sinks by the query at i. */
export const sinkEnd = (window: Window, i: number): number =>
  slides(window, i) ? window.sinks : 0;

/** The position at which the query at i is turned to see sink keys. */
export const sinkPosition = (window: Window, i: number): number =>
  slides(window, i) ? window.size - 1 : i;

/** First key that the query at i sees as one of the window. With W 8, S 2: 0 … 0 for i < 8, then 3 4 5 … */
export const windowStart = (window: Window, i: number): number =>
  slides(window, i) ? i - window.size + window.sinks + 1 : 0;

/** Pages that hold sinks; they are kept for ever. */
export const sinkPages = (window: Window, pageTokens: number): number =>
  window.kind === "full" ? 0 : Math.ceil(window.sinks / pageTokens);

/** Pages after the sink pages that no query at `position` or later sees: all others must be held. */
export const passedPages = (window: Window, position: number, pageTokens: number): number =>
  Math.max(
    0,
    Math.floor(windowStart(window, position) / pageTokens) - sinkPages(window, pageTokens),
  );

/** The first position from which a query does without `passed` ≥ 1 pages after the sink pages. */
export function firstPositionWithout(window: Window, passed: number, pageTokens: number): number {
  if (window.kind === "full") return Infinity;
  return (sinkPages(window, pageTokens) + passed) * pageTokens + window.size - window.sinks - 1;
}
