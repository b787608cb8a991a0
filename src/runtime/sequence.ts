import { ResourceError } from "../base/errors.ts";
import type { PagePool } from "./page-pool.ts";
import { fullWindow, passedPages, sinkPages, type Window } from "./window.ts";

/**
 * One sequence and its page table: a value, replaced and never changed.
 *
 * Full pages are immutable and may be shared. The last page, when partial, may be held by others too, but one of its holders
 * at most goes on in it: all others have a shared tail, and growing copies it for them. Who goes on writes behind its own
 * length only; one that was cut back while others held the page would write what they read, so its tail is shared as well.
 */
export class Sequence {
  readonly pageTokens: number;
  readonly window: Window = fullWindow;
  readonly length: number = 0;
  /** Held pages by position; after the sink pages, `passed` pages are missing. */
  readonly pages: readonly number[] = [];
  /** Absolute page number − index in `pages`, for pages of the window; sink pages are in their place. */
  readonly passed: number = 0;
  readonly isTailShared: boolean = false;

  constructor(pageTokens: number) {
    this.pageTokens = pageTokens;
  }

  with(changes: Partial<Sequence>): Sequence {
    return Object.assign(new Sequence(this.pageTokens), this, changes);
  }

  get #sinkPages(): number {
    return sinkPages(this.window, this.pageTokens);
  }

  slotOf(position: number): number {
    const page = Math.floor(position / this.pageTokens);
    const at = page < this.#sinkPages ? page : page - this.passed;
    return this.pages[at] * this.pageTokens + (position % this.pageTokens);
  }

  /** Throws unless all tokens in [start, end) are held. */
  checkHeld(start: number, end: number): void {
    const sinks = this.#sinkPages * this.pageTokens;
    const window = sinks + this.passed * this.pageTokens;
    if (this.passed === 0 || start >= window || end <= sinks || start === end) return;
    const held = `the first ${sinks} and those from ${window} to ${this.length - 1}`;
    const problem = `tokens ${start} to ${end - 1}: the window has passed; held are ${held}`;
    throw new ResourceError("window-passed", problem, { start, end, sinks, window });
  }

  /**
   * The first `length` tokens, which hold on to the last page. Throws unless they can go on: all that their next token sees
   * must be held.
   */
  first(length: number): Sequence {
    const sinks = this.#sinkPages * this.pageTokens;
    const passed = length <= sinks ? 0 : this.passed;
    let shortest = length;
    while (passedPages(this.window, shortest, this.pageTokens) < passed) shortest++;
    const kept = `of ${this.length} tokens, ${shortest} or more can be kept, or at most ${sinks}`;
    const problem = `going back to ${length} tokens: the window has passed; ${kept}`;
    const data = { length, shortest, sinks };
    if (shortest > length) throw new ResourceError("window-passed", problem, data);
    const pages = this.pages.slice(0, Math.ceil(length / this.pageTokens) - passed);
    return this.with({ length, passed, pages, isTailShared: length % this.pageTokens > 0 });
  }

  /** Without the pages that the window has passed. */
  withoutPassed(): Sequence {
    const passed = passedPages(this.window, this.length, this.pageTokens);
    const pages = this.pages.toSpliced(this.#sinkPages, passed - this.passed);
    return this.with({ pages, passed });
  }

  /** With `rows` more tokens and pages for them; a shared tail is copied unless no one else holds it any more. */
  grown(rows: number, pool: PagePool): Sequence {
    const length = this.length + rows;
    const pages = [...this.pages];
    const tail = pages.length - 1;
    if (this.isTailShared && pool.holders[pages[tail]] > 1) pages[tail] = pool.copy(pages[tail]);
    const needed = Math.ceil(length / this.pageTokens) - this.passed;
    while (pages.length < needed) pages.push(pool.take());
    return this.with({ length, pages, isTailShared: false });
  }

  /** Raises filled [pages] to the tokens that we have in each held page. */
  raise(filled: Int32Array): void {
    this.pages.forEach((page, at) => {
      const before = (at < this.#sinkPages ? at : at + this.passed) * this.pageTokens;
      filled[page] = Math.max(filled[page], Math.min(this.pageTokens, this.length - before));
    });
  }
}
