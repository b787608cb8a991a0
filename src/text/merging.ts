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

/** The least of some numbers that change one by one: in a tree, where a node has the lesser of the two below it. */
class Least {
  /** The root is at 1, the two below a node at twice its place, the numbers are the second half. */
  readonly #tree: Float64Array;

  constructor(count: number) {
    this.#tree = new Float64Array(2 * count).fill(Infinity);
  }

  get value(): number {
    return this.#tree[1];
  }

  set(at: number, value: number): void {
    const tree = this.#tree;
    let node = tree.length / 2 + at;
    tree[node] = value;
    for (; node > 1; node >>= 1) {
      const lesser = Math.min(tree[node], tree[node ^ 1]);
      if (tree[node >> 1] === lesser) break;
      tree[node >> 1] = lesser;
    }
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
  const results = new Int32Array(count); // what a symbol and its next one become
  const waiting = new Least(count); // rank × 2^32 + position: exact in f64 for ranks below 2^21

  const consider = (at: number): void => {
    const slot = next[at] < count ? pairs.find(ids[at], ids[next[at]]) : none;
    const joins = slot !== none && pairs.slots[slot] !== none;
    results[at] = pairs.slots[slot + 3];
    waiting.set(at, joins ? pairs.slots[slot + 2] * positions + at : Infinity);
  };

  for (let at = 0; at < count; at++) {
    next[at] = at + 1;
    previous[at] = at - 1;
    consider(at);
  }
  while (waiting.value < Infinity) {
    const at = waiting.value % positions;
    const gone = next[at];
    ids[at] = results[at];
    next[at] = next[gone];
    if (next[at] < count) previous[next[at]] = at;
    waiting.set(gone, Infinity);
    consider(at);
    if (at > 0) consider(previous[at]);
  }

  const merged: number[] = [];
  for (let at = 0; at < count; at = next[at]) merged.push(ids[at]);
  return merged;
}
