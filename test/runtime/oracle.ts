import { expect } from "vitest";
import type { CacheStorage } from "../../src/devices/device.ts";
import type { CacheRows } from "../../src/ir/graph.ts";
import type { StepLayout } from "../../src/ir/step-layout.ts";
import { PagedCache, type CacheOptions } from "../../src/runtime/paged-cache.ts";

/** A cache of two layers that stores one number per token: 0 where nothing was written. */
export class Memory implements CacheStorage {
  readonly pages: number;
  readonly pageTokens: number;
  readonly values: Float32Array;
  disposed = 0;

  constructor(pages: number, pageTokens: number) {
    this.pages = pages;
    this.pageTokens = pageTokens;
    this.values = new Float32Array(pages * pageTokens);
  }

  copy(copies: Int32Array): void {
    const size = this.pageTokens;
    for (let at = 0; at < copies.length; at += 2) {
      const from = copies[at] * size;
      this.values.copyWithin(copies[at + 1] * size, from, from + size);
    }
  }

  /** What the device does before attention: copies, then the rows. */
  write(layout: StepLayout, tokens: readonly number[]): void {
    this.copy(layout.copies);
    tokens.forEach((token, row) => (this.values[layout.slots[row]] = token));
  }

  /** Layer l gives the tokens + l as keys, negated as values. */
  async read(slots: Int32Array): Promise<CacheRows[]> {
    return [0, 1].map((layer) => {
      const keys = Float32Array.from(slots, (slot) => this.values[slot] + layer);
      return { keys, values: keys.map((key) => -key) };
    });
  }

  dispose(): void {
    this.disposed++;
  }
}

export function cacheOf({
  pages = 16,
  ...options
}: Partial<CacheOptions & { readonly pages: number }> = {}): { cache: PagedCache; memory: Memory } {
  const all = { pageTokens: 4, maxBatch: 8, maxRows: 64, supportSlidingWindow: true, ...options };
  const memory = new Memory(pages, all.pageTokens);
  return { cache: new PagedCache(memory, all), memory };
}

/** Checks that each sequence holds its tokens, each page once, and goes on in no page that another does. */
export function verify({ sequences }: PagedCache): void {
  const tails = new Set<number>();
  for (const { pages, length, passed, pageTokens, isTailShared } of sequences.values()) {
    const past = Math.ceil(length / pageTokens) - passed;
    expect(pages.length, "a sequence has tokens without a page").toBeGreaterThanOrEqual(past);
    expect(new Set(pages).size, "a sequence holds a page twice").toBe(pages.length);
    if (isTailShared || length % pageTokens === 0) continue;
    expect(tails.has(pages[past - 1]), "two sequences go on in the same page").toBe(false);
    tails.add(pages[past - 1]);
  }
}

/** A key as a row sees it: where it is, what it is, and how far away RoPE takes it to be. */
export interface Key {
  readonly position: number;
  readonly token: number;
  readonly distance: number;
}

/** Keys that a row of the layout sees, read as ops/attention.ts reads it. */
export function keysSeen(layout: StepLayout, memory: Memory, row: number): Key[] {
  const keyAt = (position: number): Key => {
    const sink = position < layout.sinkEnds[row];
    const table = sink ? layout.sinkTables[row] : layout.windowTables[row];
    const page = layout.pageTable[table + Math.floor(position / memory.pageTokens)];
    const turned = sink ? layout.sinkPositions[row] : layout.positions[row];
    const token = memory.values[page * memory.pageTokens + (position % memory.pageTokens)];
    return { position, token, distance: turned - position };
  };
  const keys: Key[] = [];
  for (let j = 0; j < layout.sinkEnds[row]; j++) keys.push(keyAt(j));
  const start = Math.max(layout.windowStarts[row], layout.sinkEnds[row]);
  for (let j = start; j <= layout.positions[row]; j++) keys.push(keyAt(j));
  return keys;
}

export interface NaiveWindow {
  readonly size: number;
  readonly sinks: number;
}
export const noWindow: NaiveWindow = { size: Infinity, sinks: 0 };

export const sees = ({ size, sinks }: NaiveWindow, i: number, j: number): boolean =>
  j <= i && (j < sinks || i - j < size - sinks);

/** The contract of DESIGN §3, key by key. */
export const keysOf = (tokens: readonly number[], window: NaiveWindow, i: number): Key[] =>
  tokens
    .map((token, j) => {
      const distance = j < window.sinks ? Math.min(i, window.size - 1) - j : i - j;
      return { position: j, token, distance };
    })
    .filter(({ position }) => sees(window, i, position));

export interface NaiveSequence {
  tokens: number[];
  window: NaiveWindow;
}

/** Writes the rows of a forward and compares what each sees with the contract. */
export function expectForward(
  layout: StepLayout,
  memory: Memory,
  appended: readonly { readonly sequence: NaiveSequence; readonly tokens: readonly number[] }[],
): void {
  const rows = appended.flatMap(({ tokens }) => tokens);
  expect(layout.rows).toBe(rows.length);
  expect(new Set(layout.slots).size, "slots of a step differ").toBe(rows.length);
  memory.write(layout, rows);
  let row = 0;
  appended.forEach(({ sequence, tokens }, at) => {
    const all = [...sequence.tokens, ...tokens];
    for (let i = sequence.tokens.length; i < all.length; i++, row++) {
      expect(layout.positions[row]).toBe(i);
      expect(keysSeen(layout, memory, row)).toEqual(keysOf(all, sequence.window, i));
    }
    expect(layout.lastRows[at]).toBe(row - 1);
  });
}

export interface ModelSequence extends NaiveSequence {
  /** Positions whose page the window has passed. */
  lost: Set<number>;
}

/** Sequences as the naive cache keeps them, and what their windows have passed. */
export class Model {
  readonly sequences: Map<number, ModelSequence> = new Map();
  readonly pageTokens: number;
  readonly maxBatch: number;
  readonly maxRows: number;
  #tokens = 0;

  constructor(pageTokens: number, maxBatch: number, maxRows: number) {
    this.pageTokens = pageTokens;
    this.maxBatch = maxBatch;
    this.maxRows = maxRows;
  }

  newTokens(count: number): number[] {
    return Array.from({ length: count }, () => ++this.#tokens);
  }

  page(position: number): number[] {
    const first = Math.floor(position / this.pageTokens) * this.pageTokens;
    return Array.from({ length: this.pageTokens }, (_, at) => first + at);
  }

  /** Whether the token after the first `length` would see all that it must. */
  canGoOn({ lost, window }: ModelSequence, length: number): boolean {
    const before = [...lost].filter((position) => position < length);
    return (
      before.length === 0 ||
      !before
        .concat(this.page(length).filter((j) => lost.has(j)))
        .some((j) => this.page(j).some((other) => sees(window, length, other)))
    );
  }

  lose(sequence: ModelSequence): void {
    const { tokens, window, lost } = sequence;
    for (let j = 0; j < tokens.length; j++) {
      const page = this.page(j);
      const isPassed = Math.max(...page) < tokens.length;
      const isSeen = page.some((other) => sees(window, tokens.length, other));
      if (isPassed && !isSeen) lost.add(j);
    }
  }

  first(sequence: ModelSequence, length: number): ModelSequence {
    return {
      tokens: sequence.tokens.slice(0, length),
      window: sequence.window,
      lost: new Set([...sequence.lost].filter((position) => position < length)),
    };
  }
}
