import { ResourceError } from "../base/errors.ts";
import type { PagePool } from "./page-pool.ts";
import { firstPositionWithout, passedPages, sinkPages, type Window } from "./window.ts";

/**
 * One sequence and its page table: a value, replaced and never changed.
 *
 * Full pages are immutable and may be shared. The last page, when partial, may be held by others too, but one of its holders
 * at most goes on in it: all others have a shared tail, and growing copies it for them. Who goes on writes behind its own
 * length only; one that was cut back while others held the page would write what they read, so its tail is shared as well.
 */
export interface Sequence {
  readonly pageTokens: number;
  readonly window: Window;
  readonly length: number;
  /** Held pages by position; after the sink pages, `passed` pages are missing. */
  readonly pages: readonly number[];
  /** Absolute page number − index in `pages`, for pages of the window; sink pages are in their place. */
  readonly passed: number;
  readonly isTailShared: boolean;
}

const sinkPagesOf = ({ window, pageTokens }: Sequence): number => sinkPages(window, pageTokens);

/** Passed pages among the first `length` tokens: none when these end in the sink pages. */
const passedIn = (sequence: Sequence, length: number): number =>
  length <= sinkPagesOf(sequence) * sequence.pageTokens ? 0 : sequence.passed;

export function slotOf(sequence: Sequence, position: number): number {
  const { pageTokens, pages, passed } = sequence;
  const page = Math.floor(position / pageTokens);
  const at = page < sinkPagesOf(sequence) ? page : page - passed;
  return pages[at] * pageTokens + (position % pageTokens);
}

/** Throws unless all tokens in [start, end) are held. */
export function checkHeld(sequence: Sequence, start: number, end: number): void {
  const { pageTokens, passed, length } = sequence;
  const sinks = sinkPagesOf(sequence) * pageTokens;
  const window = sinks + passed * pageTokens;
  if (passed === 0 || start >= window || end <= sinks || start === end) return;
  throw new ResourceError(
    "window-passed",
    `tokens ${start} to ${end - 1}: the window has passed; held are the first ${sinks} and those from ${window} to ${length - 1}`,
    { start, end, sinks, window },
  );
}

/**
 * The first `length` tokens, which hold on to the last page. Throws unless they can go on: all that their next token sees must
 * be held.
 */
export function firstOf(sequence: Sequence, length: number): Sequence {
  const { pageTokens, window, pages } = sequence;
  const passed = passedIn(sequence, length);
  if (passedPages(window, length, pageTokens) < passed) {
    const shortest = firstPositionWithout(window, sequence.passed, pageTokens);
    const sinks = sinkPagesOf(sequence) * pageTokens;
    throw new ResourceError(
      "window-passed",
      `going back to ${length} tokens: the window has passed; of ${sequence.length} tokens, ${shortest} or more can be kept, or at most ${sinks}`,
      { length, shortest, sinks },
    );
  }
  const kept = pages.slice(0, Math.ceil(length / pageTokens) - passed);
  const isTailShared = length % pageTokens > 0;
  return { ...sequence, length, passed, pages: kept, isTailShared };
}

/** Without the pages that the window has passed. */
export function withoutPassed(sequence: Sequence): Sequence {
  const { window, length, pages, pageTokens } = sequence;
  const passed = passedPages(window, length, pageTokens);
  const drop = passed - sequence.passed;
  return drop > 0
    ? { ...sequence, pages: pages.toSpliced(sinkPagesOf(sequence), drop), passed }
    : sequence;
}

/** With `rows` more tokens and pages for them; a shared tail is copied unless no one else holds it any more. */
export function grown(sequence: Sequence, rows: number, pool: PagePool): Sequence {
  const { length, pageTokens, passed, isTailShared } = sequence;
  const pages = [...sequence.pages];
  const tail = pages.length - 1;
  if (isTailShared && pool.holders[pages[tail]] > 1) pages[tail] = pool.copy(pages[tail]);
  const needed = Math.ceil((length + rows) / pageTokens) - passed;
  while (pages.length < needed) pages.push(pool.take());
  return { ...sequence, length: length + rows, pages, isTailShared: false };
}

/** Raises filled [pages] to the tokens of the sequence in each page. */
export function raise(sequence: Sequence, filled: Int32Array): void {
  const { length, pages, passed, pageTokens } = sequence;
  const sinks = sinkPagesOf(sequence);
  pages.forEach((page, at) => {
    const before = (at < sinks ? at : at + passed) * pageTokens;
    filled[page] = Math.max(filled[page], Math.min(pageTokens, length - before));
  });
}
