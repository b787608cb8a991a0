import { describe, expect, it } from "vitest";
import {
  InputError,
  InternalError,
  ResourceError,
  UnsupportedError,
} from "../../src/base/errors.ts";
import type { PagedCache } from "../../src/runtime/paged-cache.ts";
import { cacheOf, expectForward, type Memory, type NaiveSequence, verify } from "./oracle.ts";

const append = (cache: PagedCache, id: number, rows: number): void => {
  cache.beginForward([id], [rows]);
  cache.endForward();
};
const write = (cache: PagedCache, memory: Memory, id: number, tokens: readonly number[]): void => {
  memory.write(cache.beginForward([id], [tokens.length]), tokens);
  cache.endForward();
};
const tokensOf = async (cache: PagedCache, id: number): Promise<number[]> => {
  const { keys } = await cache.debugKV(id, 0, cache.length(id));
  return [...keys[0]];
};

describe("fork", () => {
  it("shares all pages, and copies a partial one for the first of the two that may not go on in it", () => {
    const { cache } = cacheOf();
    cache.add(1);
    append(cache, 1, 10);
    cache.fork(1, 2);
    expect(cache.availablePages).toBe(13);
    expect(cache.totalSequenceLength).toBe(10);
    expect([...cache.beginForward([2], [1]).copies]).toEqual([2, 3]);
    expect(cache.availablePages).toBe(12);
    cache.endForward();
    expect(cache.totalSequenceLength).toBe(13);
    expect(cache.beginForward([1, 2], [1, 1]).copies.length).toBe(0);
  });

  it("shares everything at a page edge, and nothing at position 0", () => {
    const { cache } = cacheOf();
    cache.add(1);
    append(cache, 1, 8);
    cache.fork(1, 2);
    cache.fork(1, 3, 0);
    expect(cache.availablePages).toBe(14);
    expect([2, 3].map((id) => cache.length(id))).toEqual([8, 0]);
    expect(cache.totalSequenceLength).toBe(8);
    expect(cache.beginForward([2, 3], [1, 1]).copies.length).toBe(0);
  });

  it("leaves both sides their own tokens when both go on", async () => {
    const { cache, memory } = cacheOf();
    cache.add(1);
    write(cache, memory, 1, [1, 2, 3, 4, 5, 6]);
    cache.fork(1, 2, 5);
    write(cache, memory, 1, [17]);
    write(cache, memory, 2, [26, 27]);
    expect(await tokensOf(cache, 1)).toEqual([1, 2, 3, 4, 5, 6, 17]);
    expect(await tokensOf(cache, 2)).toEqual([1, 2, 3, 4, 5, 26, 27]);
  });

  it("of a fork keeps its tokens when both before it are gone", async () => {
    const { cache, memory } = cacheOf();
    cache.add(1);
    write(cache, memory, 1, [1, 2, 3]);
    cache.fork(1, 2, 2);
    cache.fork(2, 3, 1);
    cache.remove(2);
    cache.remove(1);
    write(cache, memory, 3, [9]);
    expect(await tokensOf(cache, 3)).toEqual([1, 9]);
    expect(cache.availablePages).toBe(15);
  });

  it("goes on in the shared page itself when nobody else holds it any more", () => {
    const { cache } = cacheOf({ pages: 1 });
    cache.add(1);
    append(cache, 1, 3);
    cache.fork(1, 2);
    expect(() => cache.beginForward([2], [1])).toThrow(/1 pages are needed, 0 are free/);
    cache.remove(1);
    expect(cache.beginForward([2], [1]).copies.length).toBe(0);
  });

  it("leaves nothing to copy when it is removed", () => {
    const { cache } = cacheOf({ pages: 3 });
    cache.add(1);
    append(cache, 1, 3);
    cache.fork(1, 2);
    cache.fork(2, 3);
    cache.remove(1);
    cache.remove(3);
    cache.remove(2);
    expect(cache.availablePages).toBe(3);
    cache.add(1);
    expect(cache.beginForward([1], [1]).copies.length).toBe(0);
  });
});

describe("copy on write", () => {
  it("copies a shared page when a sequence cut back into it goes on", async () => {
    const { cache, memory } = cacheOf();
    cache.add(1);
    write(cache, memory, 1, [1, 2, 3, 4, 5, 6, 7, 8]);
    cache.fork(1, 2);
    cache.popN(2, 2);
    cache.popN(1, 3);
    write(cache, memory, 2, [27]);
    write(cache, memory, 1, [16]);
    expect(await tokensOf(cache, 2)).toEqual([1, 2, 3, 4, 5, 6, 27]);
    expect(await tokensOf(cache, 1)).toEqual([1, 2, 3, 4, 5, 16]);
    cache.remove(2);
    expect(cache.availablePages).toBe(14);
  });

  it("happens once: then the page is its own, also while a fork shares it", () => {
    const { cache } = cacheOf();
    cache.add(1);
    append(cache, 1, 8);
    cache.fork(1, 2);
    cache.popN(2, 2);
    append(cache, 2, 1);
    cache.fork(2, 3);
    expect([...cache.beginForward([2, 3], [1, 1]).copies]).toEqual([2, 3]);
  });

  it("writes in place when nobody else holds the page any more", () => {
    const { cache } = cacheOf();
    cache.add(1);
    append(cache, 1, 8);
    cache.fork(1, 2);
    cache.popN(2, 2);
    cache.remove(1);
    expect(cache.beginForward([2], [1]).copies.length).toBe(0);
  });

  it("is refused as a whole without a page for it, and is undone when the step is abandoned", () => {
    const { cache } = cacheOf({ pages: 3 });
    cache.add(1);
    append(cache, 1, 8);
    cache.fork(1, 2);
    cache.popN(2, 2);
    const copies = [...cache.beginForward([2], [1]).copies];
    expect(copies).toEqual([1, 2]);
    cache.abandonForward();
    expect(cache.availablePages).toBe(1);
    verify(cache);
    append(cache, 1, 1);
    expect(() => cache.beginForward([2], [1])).toThrow(ResourceError);
    expect(() => cache.beginForward([1, 2], [1, 1])).toThrow(/1 pages are needed, 0 are free/);
    verify(cache);
    append(cache, 1, 1);
  });
});

describe("abandoning", () => {
  it("gives pages back, and survives a step that half ran", async () => {
    const { cache, memory } = cacheOf();
    cache.add(1);
    write(cache, memory, 1, [1, 2, 3, 4, 5, 6]);
    cache.fork(1, 2, 5);
    cache.remove(1);
    const before = cache.availablePages;
    const layout = cache.beginForward([2], [6]);
    memory.write(layout, [-1, -1, -1, -1, -1, -1]);
    cache.abandonForward();
    expect(cache.availablePages).toBe(before);
    expect(cache.length(2)).toBe(5);
    expect([...cache.beginForward([2], [1]).copies]).toEqual([...layout.copies]);
    cache.abandonForward();
    expect(await tokensOf(cache, 2)).toEqual([1, 2, 3, 4, 5]);
  });
});

describe("a window", () => {
  it("keeps a sequence in constant pages for 20 windows and more", () => {
    for (const [size, sinks, pageTokens] of [
      [8, 0, 4],
      [33, 4, 4],
      [40, 4, 16],
      [16, 15, 4],
      [1, 0, 4],
      [31, 1, 1],
    ]) {
      const { cache, memory } = cacheOf({ pages: Math.ceil(size / pageTokens) + 2, pageTokens });
      const sequence: NaiveSequence = { tokens: [], window: { size, sinks } };
      cache.add(0);
      cache.enableSlidingWindow(0, size, sinks);
      for (let token = 1; token <= 21 * size; token++) {
        const tokens = [token];
        expectForward(cache.beginForward([0], [1]), memory, [{ sequence, tokens }]);
        cache.endForward();
        sequence.tokens.push(token);
      }
      verify(cache);
    }
  });

  it("lets the tokens of the last forward be popped, and says how far one can go", () => {
    const { cache } = cacheOf({ pages: 64 });
    cache.add(0);
    cache.enableSlidingWindow(0, 16, 4);
    append(cache, 0, 40);
    append(cache, 0, 9);
    cache.popN(0, 9);
    expect(cache.length(0)).toBe(40);
    // Held are the sinks and the pages from token 28 on; the row at 39 sees tokens from 28 on.
    expect(() => cache.popN(0, 2)).toThrow(/of 40 tokens, 39 or more can be kept, or at most 4/);
    expect(() => cache.fork(0, 1, 38)).toThrow(ResourceError);
    cache.fork(0, 1, 39);
    cache.popN(0, 1);
    cache.truncate(0, 3);
    expect(cache.beginForward([0], [1]).positions[0]).toBe(3);
  });

  it("gives its passed pages to the same forward, also those that forks pass together", () => {
    const { cache } = cacheOf({ pages: 7 });
    cache.add(0);
    cache.enableSlidingWindow(0, 4, 0);
    append(cache, 0, 20);
    cache.fork(0, 1);
    expect(cache.availablePages).toBe(2);
    // Row 20 sees tokens from 17 on: of five pages, four go back when both have passed them.
    expect(() => cache.beginForward([0], [12])).toThrow(/3 pages are needed, 2 are free/);
    expect(() => cache.beginForward([0, 1], [16, 12])).toThrow(/7 pages are needed, 6 are free/);
    append(cache, 1, 4);
    cache.beginForward([0], [20]);
    expect(cache.availablePages).toBe(0);
    verify(cache);
  });

  it("goes to a fork, which still sees what its parent has passed since", () => {
    const { cache, memory } = cacheOf({ pages: 64 });
    const window = { size: 8, sinks: 1 };
    const parent: NaiveSequence = { tokens: [], window };
    cache.add(0);
    cache.enableSlidingWindow(0, 8, 1);
    const go = (id: number, sequence: NaiveSequence, tokens: readonly number[]): void => {
      expectForward(cache.beginForward([id], [tokens.length]), memory, [{ sequence, tokens }]);
      cache.endForward();
      sequence.tokens.push(...tokens);
    };
    for (let token = 1; token <= 30; token++) go(0, parent, [token]);
    cache.fork(0, 1);
    const child = { tokens: [...parent.tokens], window };
    for (let token = 31; token <= 60; token++) go(0, parent, [token]);
    for (let token = 131; token <= 160; token++) go(1, child, [token]);
    expect(() => cache.enableSlidingWindow(1, 8, 1)).toThrow(/a window already/);
  });

  it("can be set up to its own length, once, and only where supported", () => {
    const { cache } = cacheOf();
    cache.add(0);
    append(cache, 0, 9);
    expect(() => cache.enableSlidingWindow(0, 8, 0)).toThrow(InputError);
    cache.enableSlidingWindow(0, 9, 0);
    expect(() => cache.enableSlidingWindow(0, 9, 0)).toThrow(InputError);
    const plain = cacheOf({ supportSlidingWindow: false }).cache;
    plain.add(0);
    expect(() => plain.enableSlidingWindow(0, 8, 0)).toThrow(InputError);
  });

  it("does not read tokens that it has passed", async () => {
    const { cache } = cacheOf();
    cache.add(0);
    cache.enableSlidingWindow(0, 8, 1);
    append(cache, 0, 20);
    append(cache, 0, 1);
    await expect(cache.debugKV(0, 3, 5)).rejects.toThrow(
      /held are the first 4 and those from 12 to 20/,
    );
    await cache.debugKV(0, 0, 4);
    await cache.debugKV(0, 12, 21);
  });
});

describe("a forward", () => {
  it("concatenates rows in the order of ids", () => {
    const { cache } = cacheOf();
    for (const id of [5, 3]) cache.add(id);
    append(cache, 3, 6);
    const layout = cache.beginForward([3, 5], [3, 2]);
    expect([...layout.positions]).toEqual([6, 7, 8, 0, 1]);
    expect(cache.queryPositions()).toEqual(layout.positions);
    expect([...layout.lastRows]).toEqual([2, 4]);
    expect([...layout.windowTables]).toEqual([0, 0, 0, 3, 3]);
    expect(cache.layout).toBe(layout);
    expect(cache.length(3)).toBe(6);
    cache.endForward();
    expect([3, 5].map((id) => cache.length(id))).toEqual([9, 2]);
  });

  it("excludes everything else until it ends", () => {
    const { cache } = cacheOf();
    cache.add(0);
    cache.beginForward([0], [1]);
    const others: (() => void)[] = [
      () => cache.beginForward([0], [1]),
      () => cache.add(1),
      () => cache.remove(0),
      () => cache.fork(0, 1),
      () => cache.popN(0, 0),
      () => cache.truncate(0, 0),
      () => cache.enableSlidingWindow(0, 8, 0),
    ];
    for (const other of others) expect(other).toThrow(InternalError);
    cache.clear();
    expect(cache.has(0)).toBe(false);
    expect(cache.availablePages).toBe(16);
    for (const other of [
      () => cache.endForward(),
      () => cache.abandonForward(),
      () => cache.queryPositions(),
    ])
      expect(other).toThrow(InternalError);
  });

  it("refuses bad calls with what to change", () => {
    const { cache } = cacheOf({ maxBatch: 2, maxRows: 8, pages: 2 });
    cache.add(0);
    cache.add(1);
    for (const rows of [0, -1, 1.5, NaN, Infinity])
      expect(() => cache.beginForward([0], [rows])).toThrow(InputError);
    for (const [ids, rows] of [
      [[], []],
      [[0], []],
      [
        [0, 0],
        [1, 1],
      ],
      [[7], [1]],
    ])
      expect(() => cache.beginForward(ids, rows)).toThrow(InputError);
    for (const id of [0, -1, 0.5, NaN]) expect(() => cache.add(id)).toThrow(InputError);
    expect(() => cache.add(2)).toThrow(/room for 2 sequences/);
    expect(() => cache.beginForward([0, 1], [4, 5])).toThrow(/9 rows, a forward has 8 at most/);
    expect(() => cache.beginForward([0, 1], [5, 1])).toThrow(/3 pages are needed, 2 are free/);
    expect(() => cache.beginForward([0], [1], [[0]])).toThrow(UnsupportedError);
    expect(() => cache.commitTokenTree([0], [0])).toThrow(UnsupportedError);
    for (const tokens of [-1, 1, NaN, 0.5]) expect(() => cache.popN(0, tokens)).toThrow(InputError);
    expect(cache.availablePages).toBe(2);
  });
});

describe("debugKV", () => {
  it("gives each layer's rows, also of a page that is shared", async () => {
    const { cache, memory } = cacheOf();
    cache.add(0);
    write(cache, memory, 0, [1, 2, 3]);
    cache.fork(0, 1, 2);
    const { keys, values } = await cache.debugKV(1, 1, 2);
    expect(keys.map((layer) => [...layer])).toEqual([[2], [3]]);
    expect(values.map((layer) => [...layer])).toEqual([[-2], [-3]]);
  });

  it("leaves the cache as it was when the device fails", async () => {
    const { cache, memory } = cacheOf();
    cache.add(0);
    write(cache, memory, 0, [1]);
    cache.fork(0, 1);
    memory.read = async () => await Promise.reject(new Error("lost"));
    await expect(cache.debugKV(1, 0, 1)).rejects.toThrow("lost");
    expect([...cache.beginForward([1], [1]).copies]).toEqual([0, 1]);
  });
});

describe("disposal", () => {
  it("disposes of the storage once and ends all operations", () => {
    const { cache, memory } = cacheOf();
    cache[Symbol.dispose]();
    cache[Symbol.dispose]();
    expect(memory.disposed).toBe(1);
    expect(() => cache.add(0)).toThrow(/disposed/);
  });
});
