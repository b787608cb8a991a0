import { ResourceError } from "../base/errors.ts";
import type { Sequence } from "./sequence.ts";

/**
 * The pages of a cache at the moment something is taken of them. Who holds a page is counted here and nowhere else, anew from
 * the page tables of the sequences; a page that none of them names is free. So nothing is given back, and nothing is undone:
 * what was taken counts when the sequences that hold it become those of the cache.
 */
export class PagePool {
  /** [pages] sequences that hold each page. */
  readonly holders: Int32Array;
  /** Pages that were free in the beginning, in order. */
  readonly free: number[] = [];
  /** Pairs (from page, to page) to copy before the next step, in this order. */
  readonly copies: number[] = [];
  #taken = 0;

  constructor(pages: number, sequences: Iterable<Sequence>) {
    this.holders = new Int32Array(pages);
    for (const sequence of sequences) for (const page of sequence.pages) this.holders[page]++;
    for (let page = 0; page < pages; page++) if (this.holders[page] === 0) this.free.push(page);
  }

  /** The next free page. Where none is left there is no number: `check` must follow. */
  take(): number {
    return this.free[this.#taken++];
  }

  /** Takes a page that will be a copy of `source`. */
  copy(source: number): number {
    const page = this.take();
    this.copies.push(source, page);
    return page;
  }

  /** Throws unless there was a page for all that was taken. */
  check(what: string): void {
    const [need, have] = [this.#taken, this.free.length];
    if (need <= have) return;
    const advice = "remove or truncate sequences, append less, or create a larger cache";
    const problem = `${what}: ${need} pages are needed, ${have} are free; ${advice}`;
    throw new ResourceError("no-pages", problem, { need, have });
  }
}
