import { ResourceError } from "../base/errors.ts";
import type { PagePool } from "./page-pool.ts";
import { firstPositionWithout, fullWindow, passedPages, sinkPages, type Window } from "./window.ts";

/** What the next `rows` tokens of a sequence ask of the pool, and what goes back when they do not come to be. */
export interface Growth {
  readonly sequence: Sequence;
  readonly rows: number;
  /** Pages to take for the tokens that the last page does not hold. */
  readonly fresh: number;
  /** The last page where it must be copied first. */
  readonly sharedTail: number | undefined;
  /** Held pages that the window has passed: they go back before. */
  readonly passed: readonly number[];
}

/**
 * The page table of one sequence; its fields are written here alone, but for the window. Callers check first (`growth`,
 * `checkCut`); what is done then cannot fail.
 *
 * Full pages are immutable and may be shared. The last page, when partial, is written in place, which is right as long as no
 * other holder reads it beyond our length: fresh pages and copies are so by birth, a fork reads up to our length only. The one
 * exception is a page that we were cut back into while others held it: then the tail is shared, and growing copies it.
 */
export class Sequence {
  window: Window = fullWindow;
  length = 0;
  /** Held pages by position; after the sink pages, `passed` pages are missing. */
  pages: number[] = [];
  /** Absolute page number − index in `pages`, for pages of the window; sink pages are in their place. */
  passed = 0;
  #isTailShared = false;
  readonly #pool: PagePool;
  readonly #pageTokens: number;

  constructor(pool: PagePool) {
    this.#pool = pool;
    this.#pageTokens = pool.pageTokens;
  }

  slotOf(position: number): number {
    const page = Math.floor(position / this.#pageTokens);
    const at = page < this.#sinkPages ? page : page - this.passed;
    return this.pages[at] * this.#pageTokens + (position % this.#pageTokens);
  }

  /** Throws unless all tokens in [start, end) are held. */
  checkHeld(start: number, end: number): void {
    const sinks = this.#sinkPages * this.#pageTokens;
    const window = sinks + this.passed * this.#pageTokens;
    if (this.passed === 0 || start >= window || end <= sinks || start === end) return;
    throw new ResourceError(
      "window-passed",
      `tokens ${start} to ${end - 1}: the window has passed; held are the first ${sinks} and those from ${window} to ${this.length - 1}`,
      { start, end, sinks, window },
    );
  }

  /** Throws unless a sequence of our first `length` tokens can go on: all that its next token sees is held. */
  checkCut(length: number): void {
    if (passedPages(this.window, length, this.#pageTokens) >= this.#passedIn(length)) return;
    const shortest = firstPositionWithout(this.window, this.passed, this.#pageTokens);
    const sinks = this.#sinkPages * this.#pageTokens;
    throw new ResourceError(
      "window-passed",
      `going back to ${length} tokens: the window has passed; of ${this.length} tokens, ${shortest} or more can be kept, or at most ${sinks}`,
      { length, shortest, sinks },
    );
  }

  /** A sequence of our first `position` tokens: full pages shared, a partial one copied. */
  fork(position: number): Sequence {
    const child = new Sequence(this.#pool);
    child.window = this.window;
    child.length = position;
    child.passed = this.#passedIn(position);
    const full = Math.floor(position / this.#pageTokens) - child.passed;
    child.pages = this.pages.slice(0, full);
    for (const page of child.pages) this.#pool.retain(page);
    if (position % this.#pageTokens > 0) child.pages.push(this.#pool.copy(this.pages[full]));
    return child;
  }

  /** Keeps the first `length` tokens. */
  cut(length: number): void {
    this.passed = this.#passedIn(length);
    this.length = length;
    const kept = Math.ceil(length / this.#pageTokens) - this.passed;
    for (const page of this.pages.splice(kept)) this.#pool.release(page);
    const isPartial = length % this.#pageTokens > 0;
    this.#isTailShared = isPartial && this.#pool.holders(this.pages[kept - 1]) > 1;
  }

  growth(rows: number): Growth {
    const pagesOf = (tokens: number): number => Math.ceil(tokens / this.#pageTokens);
    const tail = this.pages[this.pages.length - 1];
    const passed = passedPages(this.window, this.length, this.#pageTokens) - this.passed;
    return {
      sequence: this,
      rows,
      fresh: pagesOf(this.length + rows) - pagesOf(this.length),
      sharedTail: this.#isTailShared && this.#pool.holders(tail) > 1 ? tail : undefined,
      passed: this.pages.slice(this.#sinkPages, this.#sinkPages + passed),
    };
  }

  releasePassed({ passed }: Growth): void {
    this.pages.splice(this.#sinkPages, passed.length);
    this.passed += passed.length;
    for (const page of passed) this.#pool.release(page);
  }

  grow({ fresh, sharedTail }: Growth): void {
    if (sharedTail !== undefined) {
      this.pages[this.pages.length - 1] = this.#pool.copy(sharedTail);
      this.#pool.release(sharedTail);
    }
    for (let taken = 0; taken < fresh; taken++) this.pages.push(this.#pool.take());
  }

  commit({ rows }: Growth): void {
    this.length += rows;
    this.#isTailShared = false;
  }

  undo({ fresh, sharedTail }: Growth): void {
    for (const page of this.pages.splice(this.pages.length - fresh)) this.#pool.release(page);
    if (sharedTail === undefined) return;
    this.#pool.retain(sharedTail);
    for (const copy of this.pages.splice(-1, 1, sharedTail)) this.#pool.release(copy);
  }

  /** Raises filled [pages] to the tokens that we have in each held page. */
  raise(filled: Int32Array): void {
    this.pages.forEach((page, at) => {
      const number = at < this.#sinkPages ? at : at + this.passed;
      const tokens = Math.min(this.#pageTokens, this.length - number * this.#pageTokens);
      filled[page] = Math.max(filled[page], tokens);
    });
  }

  get #sinkPages(): number {
    return sinkPages(this.window, this.#pageTokens);
  }

  /** Passed pages among our first `length` tokens: none when these end in the sink pages. */
  #passedIn(length: number): number {
    return length <= this.#sinkPages * this.#pageTokens ? 0 : this.passed;
  }
}
