/** Byte-pair merging in O(n log n) for any text: no input makes it quadratic. */
import type { Merges } from "./vocabulary.ts";

const none = -1;

/** The merges by their two sides, in open addressing. */
export class PairTable {
  /** [capacity, 4]: as in `Merges`, or `none`. */
  readonly slots: Int32Array;

  constructor(merges: Merges) {
    const capacity = 2 ** Math.ceil(Math.log2(merges.length / 2 + 2)); // at most half of it is used
    this.slots = new Int32Array(4 * capacity).fill(none);
    for (let at = 0; at < merges.length; at += 4) {
      const slot = this.find(merges[at], merges[at + 1]);
      if (this.slots[slot] !== none) continue; // the pair is there already, with a lower rank
      for (let field = 0; field < 4; field++) this.slots[slot + field] = merges[at + field];
    }
  }

  /** Where a pair begins in `slots`, or where it would: there is `none` then. */
  find(left: number, right: number): number {
    const { slots } = this;
    const hash = Math.imul(Math.imul(left, 0x9e3779b1) ^ right, 0x85ebca6b);
    for (let place = hash ^ (hash >>> 15); ; place++) {
      const slot = (4 * place) & (slots.length - 1);
      if (slots[slot] === none || (slots[slot] === left && slots[slot + 1] === right)) return slot;
    }
  }
}

/** A binary heap, least number first. */
function push(heap: number[], item: number): void {
  let at = heap.push(item) - 1;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (heap[parent] <= item) break;
    heap[at] = heap[parent];
    at = parent;
  }
  heap[at] = item;
}

function pop(heap: number[]): number | undefined {
  const top = heap[0];
  const item = heap.pop();
  if (item === undefined || heap.length === 0) return item;
  let at = 0;
  for (let child = 1; child < heap.length; child = 2 * at + 1) {
    if (child + 1 < heap.length && heap[child + 1] < heap[child]) child++;
    if (heap[child] >= item) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = item;
  return top;
}

const positions = 2 ** 32;

/** Merges the symbols of one word: always the pair of lowest rank, the leftmost of equals, until none is left. */
export function merge(symbols: readonly number[], pairs: PairTable): number[] {
  const count = symbols.length;
  if (count < 2) return [...symbols];
  const ids = new Int32Array(symbols);
  const next = new Int32Array(count);
  const previous = new Int32Array(count);
  // Of the merge that a symbol and its next one wait for:
  const ranks = new Int32Array(count);
  const results = new Int32Array(count);
  const waiting: number[] = []; // rank × 2^32 + position: exact in f64 for ranks below 2^21

  const consider = (at: number): void => {
    const slot = next[at] < count ? pairs.find(ids[at], ids[next[at]]) : none;
    ranks[at] = slot === none ? none : pairs.slots[slot + 2];
    results[at] = pairs.slots[slot + 3];
    if (ranks[at] !== none) push(waiting, ranks[at] * positions + at);
  };

  for (let at = 0; at < count; at++) {
    next[at] = at + 1;
    previous[at] = at - 1;
    consider(at);
  }
  for (let item = pop(waiting); item !== undefined; item = pop(waiting)) {
    const rank = Math.floor(item / positions);
    const at = item - rank * positions;
    if (ranks[at] !== rank) continue; // one of the two was merged meanwhile
    const gone = next[at];
    ids[at] = results[at];
    ranks[gone] = none;
    next[at] = next[gone];
    if (next[at] < count) previous[next[at]] = at;
    consider(at);
    if (at > 0) consider(previous[at]);
  }

  const merged: number[] = [];
  for (let at = 0; at < count; at = next[at]) merged.push(ids[at]);
  return merged;
}
