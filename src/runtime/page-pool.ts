import { invariant } from "../base/errors.ts";

/**
 * The pages of one cache: who holds them is counted here and nowhere else. A page is free, or held by sequences and by copies
 * that wait for the device.
 *
 * A waiting copy holds the page it reads, so that page is not handed out and its copied part not overwritten before the copy
 * is known to have run: running the list again after a failed step gives the same bytes. A page is the target of one copy at
 * most, taken fresh for it, so the list in order of arrival is right. When a target becomes free before its copy ran, the
 * copy is dropped and lets go of its source.
 */
export class PagePool {
  readonly pageTokens: number;
  /** [pages] holders of each page. */
  readonly #holders: Int32Array;
  /** Free pages; the last one is taken first. */
  readonly #free: number[];
  /** Waiting copies: target → source, in the order in which they must run. */
  readonly #copies = new Map<number, number>();

  constructor(pages: number, pageTokens: number) {
    this.pageTokens = pageTokens;
    this.#holders = new Int32Array(pages);
    this.#free = Array.from({ length: pages }, (_, at) => pages - 1 - at);
  }

  get pages(): number {
    return this.#holders.length;
  }

  get available(): number {
    return this.#free.length;
  }

  holders(page: number): number {
    return this.#holders[page];
  }

  take(): number {
    const page = this.#free.pop();
    invariant(page !== undefined, "a page was taken from an empty pool");
    this.#holders[page] = 1;
    return page;
  }

  retain(page: number): void {
    invariant(this.#holders[page] > 0, `page ${page} is free and cannot be shared`);
    this.#holders[page]++;
  }

  release(page: number): void {
    invariant(this.#holders[page] > 0, `page ${page} was released twice`);
    if (--this.#holders[page] > 0) return;
    this.#free.push(page);
    const source = this.#copies.get(page);
    if (source === undefined) return;
    this.#copies.delete(page);
    this.release(source);
  }

  /** Takes a page that will be a copy of `source` before the next step writes. */
  copy(source: number): number {
    this.retain(source);
    const page = this.take();
    this.#copies.set(page, source);
    return page;
  }

  /** Waiting copies as pairs (from, to), in order. */
  copies(): Int32Array {
    return Int32Array.from([...this.#copies].flatMap(([to, from]) => [from, to]));
  }

  /** The device has run all waiting copies. */
  copiesDone(): void {
    const sources = [...this.#copies.values()];
    this.#copies.clear();
    for (const source of sources) this.release(source);
  }

  /** Pages that would become free if these were released; a page may be named once per holder. */
  freedBy(released: readonly number[]): number {
    const left = this.#holders.slice();
    return released.filter((page) => --left[page] === 0).length;
  }

  /** Throws an InternalError unless the counts are those of `held` (a page once per holder) and of the waiting copies. */
  verify(held: Iterable<number>): void {
    const left = this.#holders.slice();
    for (const page of [...held, ...this.#copies.values()]) left[page]--;
    const free = new Set(this.#free);
    invariant(free.size === this.#free.length, "a page is free twice");
    left.forEach((count, page) => {
      const holders = this.#holders[page];
      invariant(count === 0, `page ${page} has ${holders - count} holders, counted are ${holders}`);
      invariant(
        free.has(page) === (holders === 0),
        `page ${page} has ${holders} holders and is free`,
      );
    });
  }
}
