import { invariant, ResourceError } from "../base/errors.ts";
import type { PagePool } from "./page-pool.ts";
import { firstPositionWithout, fullWindow, passedPages, sinkPages, type Window } from "./window.ts";

/** What the next `rows` tokens of a sequence ask of the pool. */
export interface Demand {
  readonly rows: number;
  /** Pages to take, the copy of a shared tail included. */
  readonly pages: number;
  readonly copiesTail: boolean;
  /** Held pages that the window has passed: they go back. */
  readonly passed: readonly number[];
}

/** Between `grow` and `commit` or `undo`: what to take back. */
type Growth =
  | { readonly kind: "none" }
  | {
      readonly kind: "growing";
      readonly rows: number;
      readonly pagesBefore: number;
      /** The shared page that a copy stands in for. */
      readonly sharedTail: number | undefined;
    };

/**
 * The page table of one sequence. Callers check first (`demand`, `checkCut`); what is done then cannot fail.
 *
 * Full pages are immutable and may be shared. The last page, when partial, is written in place, which is right as long as no
 * other holder reads it beyond our length: fresh pages and copies are so by birth, a fork reads up to our length only. The one
 * exception is a page that we were cut back into while others held it: then the tail is `shared`, and growing copies it.
 */
export class Sequence {
  window: Window = fullWindow;
  readonly #pool: PagePool;
  readonly #pageTokens: number;
  #length = 0;
  /** Held pages by position; after the sink pages, `#passed` pages are missing. */
  #pages: number[] = [];
  #passed = 0;
  #tail: "own" | "shared" = "own";
  #growth: Growth = { kind: "none" };

  constructor(pool: PagePool, pageTokens: number) {
    this.#pool = pool;
    this.#pageTokens = pageTokens;
  }

  get length(): number {
    return this.#length;
  }

  get pages(): readonly number[] {
    return this.#pages;
  }

  /** Absolute page number − index in `pages`, for pages of the window; sink pages are in their place. */
  get passed(): number {
    return this.#passed;
  }

  slotOf(position: number): number {
    const page = Math.floor(position / this.#pageTokens);
    const at = page < this.#sinkPages ? page : page - this.#passed;
    return this.#pages[at] * this.#pageTokens + (position % this.#pageTokens);
  }

  /** Throws unless all tokens in [start, end) are held. */
  checkHeld(start: number, end: number): void {
    const sinks = this.#sinkPages * this.#pageTokens;
    const window = (this.#sinkPages + this.#passed) * this.#pageTokens;
    if (this.#passed === 0 || start >= window || end <= sinks || start === end) return;
    throw new ResourceError(
      "window-passed",
      `tokens ${start} to ${end - 1}: the window has passed; held are the first ${sinks} and those from ${window} to ${this.#length - 1}`,
      { start, end, sinks, window },
    );
  }

  /** Throws unless a sequence of our first `length` tokens can go on: all that its next token sees is held. */
  checkCut(length: number): void {
    const held = passedPages(this.window, length, this.#pageTokens) >= this.#passedIn(length);
    if (held) return;
    const shortest = firstPositionWithout(this.window, this.#passed, this.#pageTokens);
    const sinks = this.#sinkPages * this.#pageTokens;
    throw new ResourceError(
      "window-passed",
      `going back to ${length} tokens: the window has passed; of ${this.#length} tokens, ${shortest} or more can be kept, or at most ${sinks}`,
      { length, shortest, sinks },
    );
  }

  /** A sequence of our first `position` tokens: full pages shared, a partial one copied. */
  fork(position: number): Sequence {
    const child = new Sequence(this.#pool, this.#pageTokens);
    child.window = this.window;
    child.#length = position;
    child.#passed = this.#passedIn(position);
    const full = Math.floor(position / this.#pageTokens) - child.#passed;
    child.#pages = this.#pages.slice(0, full);
    for (const page of child.#pages) this.#pool.retain(page);
    if (position % this.#pageTokens > 0) child.#pages.push(this.#pool.copy(this.#pages[full]));
    return child;
  }

  cut(length: number): void {
    this.#passed = this.#passedIn(length);
    this.#length = length;
    const kept = Math.ceil(length / this.#pageTokens) - this.#passed;
    for (const page of this.#pages.splice(kept)) this.#pool.release(page);
    const partial = length % this.#pageTokens > 0;
    this.#tail = partial && this.#pool.holders(this.#pages[kept - 1]) > 1 ? "shared" : "own";
  }

  demand(rows: number): Demand {
    const pagesOf = (tokens: number): number => Math.ceil(tokens / this.#pageTokens);
    const fresh = pagesOf(this.#length + rows) - pagesOf(this.#length);
    const copiesTail =
      this.#tail === "shared" && this.#pool.holders(this.#pages[this.#pages.length - 1]) > 1;
    const passed = passedPages(this.window, this.#length, this.#pageTokens) - this.#passed;
    return {
      rows,
      pages: fresh + (copiesTail ? 1 : 0),
      copiesTail,
      passed: this.#pages.slice(this.#sinkPages, this.#sinkPages + passed),
    };
  }

  releasePassed({ passed }: Demand): void {
    this.#pages.splice(this.#sinkPages, passed.length);
    this.#passed += passed.length;
    for (const page of passed) this.#pool.release(page);
  }

  grow({ rows, pages, copiesTail }: Demand): void {
    const pagesBefore = this.#pages.length;
    const sharedTail = copiesTail ? this.#pages[pagesBefore - 1] : undefined;
    this.#growth = { kind: "growing", rows, pagesBefore, sharedTail };
    if (sharedTail !== undefined) {
      this.#pages[pagesBefore - 1] = this.#pool.copy(sharedTail);
      this.#pool.release(sharedTail);
    }
    for (let taken = copiesTail ? 1 : 0; taken < pages; taken++)
      this.#pages.push(this.#pool.take());
  }

  commit(): void {
    invariant(this.#growth.kind === "growing", "a sequence was committed that did not grow");
    this.#length += this.#growth.rows;
    this.#tail = "own";
    this.#growth = { kind: "none" };
  }

  undo(): void {
    invariant(this.#growth.kind === "growing", "a sequence was undone that did not grow");
    const { pagesBefore, sharedTail } = this.#growth;
    this.#growth = { kind: "none" };
    for (const page of this.#pages.splice(pagesBefore)) this.#pool.release(page);
    if (sharedTail === undefined) return;
    this.#pool.retain(sharedTail);
    this.#pool.release(this.#pages[pagesBefore - 1]);
    this.#pages[pagesBefore - 1] = sharedTail;
  }

  releaseAll(): void {
    for (const page of this.#pages.splice(0)) this.#pool.release(page);
  }

  /** Raises filled [pages] to the tokens that we have in each held page. */
  raise(filled: Int32Array): void {
    this.#pages.forEach((page, at) => {
      const number = at < this.#sinkPages ? at : at + this.#passed;
      const tokens = Math.min(this.#pageTokens, this.#length - number * this.#pageTokens);
      filled[page] = Math.max(filled[page], tokens);
    });
  }

  get #sinkPages(): number {
    return sinkPages(this.window, this.#pageTokens);
  }

  /** Passed pages among our first `length` tokens: none when these end in the sink pages. */
  #passedIn(length: number): number {
    return length <= this.#sinkPages * this.#pageTokens ? 0 : this.#passed;
  }
}
