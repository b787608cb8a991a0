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

/**
 * Changes one of the numbers that are the second half of a tree. A node has the lesser of the two below it, which are at twice
 * its place, so the least number is at 1.
 */
function put(tree: Float64Array, at: number, value: number): void {
  let node = tree.length / 2 + at;
  tree[node] = value;
  for (; node > 1; node >>= 1) {
    const lesser = Math.min(tree[node], tree[node ^ 1]);
    if (tree[node >> 1] === lesser) break;
    tree[node >> 1] = lesser;
  }
}

const positions = 2 ** 32;

/** Merges the symbols of one word: always the pair of lowest rank, the leftmost of equals, until none is left. */
export function merge(symbols: readonly number[], pairs: PairTable): number[] {
  const count = symbols.length;
  if (count < 2) return [...symbols];
  const ids = new Int32Array([...symbols, none]); // the end is a symbol that joins no other
  const next = new Int32Array(count);
  const previous = new Int32Array(count + 1);
  const results = new Int32Array(count); // what a symbol and its next one become
  /** A tree of rank × 2^32 + position: exact in f64 for ranks below 2^21. */
  const waiting = new Float64Array(2 * count).fill(Infinity);

  const consider = (at: number): void => {
    const slot = pairs.find(ids[at], ids[next[at]]);
    results[at] = pairs.slots[slot + 3];
    const rank = pairs.slots[slot + 2];
    put(waiting, at, rank === none ? Infinity : rank * positions + at);
  };

  for (let at = 0; at < count; at++) {
    next[at] = at + 1;
    previous[at] = at - 1;
    consider(at);
  }
  while (waiting[1] < Infinity) {
    const at = waiting[1] % positions;
    const gone = next[at];
    ids[at] = results[at];
    next[at] = next[gone];
    previous[next[at]] = at;
    put(waiting, gone, Infinity);
    consider(at);
    if (at > 0) consider(previous[at]);
  }

  const merged: number[] = [];
  for (let at = 0; at < count; at = next[at]) merged.push(ids[at]);
  return merged;
}
