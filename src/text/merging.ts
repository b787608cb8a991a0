/** Byte-pair merging in O(n log n) for any text: no input makes it quadratic. */
import type { Merges } from "./vocabulary.ts";

const none = -1;

/** The merges by their two sides: open addressing, 4 numbers a slot as in `Merges`; `none` in a free one. */
export class PairTable {
  readonly #mask: number;
  readonly #table: Int32Array;

  constructor(merges: Merges) {
    const capacity = 2 ** Math.ceil(Math.log2(merges.length / 2 + 2)); // at most half of it is used
    this.#mask = capacity - 1;
    this.#table = new Int32Array(4 * capacity).fill(none);
    for (let at = 0; at < merges.length; at += 4) {
      const slot = this.#slot(merges[at], merges[at + 1]);
      if (this.#table[slot] !== none) continue; // the pair is there already, with a lower rank
      for (let field = 0; field < 4; field++) this.#table[slot + field] = merges[at + field];
    }
  }

  /** Slot of a pair; undefined when the two do not merge. */
  find(left: number, right: number): number | undefined {
    const slot = this.#slot(left, right);
    return this.#table[slot] === none ? undefined : slot;
  }

  rankAt(slot: number): number {
    return this.#table[slot + 2];
  }

  resultAt(slot: number): number {
    return this.#table[slot + 3];
  }

  /** Where the pair is, or the free slot where it would go. */
  #slot(left: number, right: number): number {
    const table = this.#table;
    const hash = Math.imul(Math.imul(left, 0x9e3779b1) ^ right, 0x85ebca6b);
    for (let place = hash ^ (hash >>> 15); ; place++) {
      const slot = 4 * (place & this.#mask);
      if (table[slot] === none || (table[slot] === left && table[slot + 1] === right)) return slot;
    }
  }
}
/** Least number first. */
class MinHeap {
  readonly #items: number[] = [];

  push(item: number): void {
    const items = this.#items;
    let at = items.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (items[parent] <= item) break;
      items[at] = items[parent];
      at = parent;
    }
    items[at] = item;
  }

  pop(): number | undefined {
    const items = this.#items;
    const top = items[0];
    const item = items.pop();
    if (item === undefined || items.length === 0) return item;
    let at = 0;
    for (let child = 1; child < items.length; child = 2 * at + 1) {
      if (child + 1 < items.length && items[child + 1] < items[child]) child++;
      if (items[child] >= item) break;
      items[at] = items[child];
      at = child;
    }
    items[at] = item;
    return top;
  }
}

const positions = 2 ** 32;

/** Merges the symbols of one word: always the pair of lowest rank, the leftmost of equals, until none is left. */
export function merge(symbols: readonly number[], pairs: PairTable): number[] {
  const count = symbols.length;
  if (count < 2) return [...symbols];
  const ids = new Int32Array(symbols);
  const next = new Int32Array(count);
  const previous = new Int32Array(count);
  const slots = new Int32Array(count).fill(none); // the merge that a symbol and its next one wait for
  const waiting = new MinHeap(); // rank × 2^32 + position: exact in f64 for ranks below 2^21

  const consider = (at: number): void => {
    const slot = next[at] < count ? pairs.find(ids[at], ids[next[at]]) : undefined;
    slots[at] = slot ?? none;
    if (slot !== undefined) waiting.push(pairs.rankAt(slot) * positions + at);
  };

  for (let at = 0; at < count; at++) {
    next[at] = at + 1;
    previous[at] = at - 1;
    consider(at);
  }
  for (let item = waiting.pop(); item !== undefined; item = waiting.pop()) {
    const rank = Math.floor(item / positions);
    const at = item - rank * positions;
    const slot = slots[at];
    if (slot === none || pairs.rankAt(slot) !== rank) continue; // one of the two was merged meanwhile
    const gone = next[at];
    ids[at] = pairs.resultAt(slot);
    slots[gone] = none;
    next[at] = next[gone];
    if (next[at] < count) previous[next[at]] = at;
    consider(at);
    if (at > 0) consider(previous[at]);
  }

  const merged: number[] = [];
  for (let at = 0; at < count; at = next[at]) merged.push(ids[at]);
  return merged;
}
