import { describe, expect, it } from "vitest";
import {
  fullWindow,
  passedPages,
  sinkEnd,
  sinkPages,
  sinkPosition,
  slidingWindow,
  windowStart,
  type Window,
} from "../../src/runtime/window.ts";
import { cacheOf, expectForward, type NaiveSequence, noWindow, sees } from "./oracle.ts";

const cases = [8, 16, 33].flatMap((size) => [0, 1, 4].map((sinks) => ({ size, sinks })));
const range = (count: number): number[] => Array.from({ length: count }, (_, at) => at);

/** Key positions that the three numbers of a row let through, with their distances. */
function letThrough(window: Window, i: number): Map<number, number> {
  const end = sinkEnd(window, i);
  const sinks = range(end).map((j) => [j, sinkPosition(window, i) - j] as const);
  const start = Math.max(windowStart(window, i), end);
  return new Map([
    ...sinks,
    ...range(i + 1 - start).map((at) => [start + at, i - start - at] as const),
  ]);
}

describe("window", () => {
  for (const { size, sinks } of cases) {
    const window = slidingWindow(size, sinks);

    it(`of ${size} with ${sinks} sinks lets each row see what the mask says, at the contract's distance`, () => {
      for (let i = 0; i < 4 * size; i++) {
        const keys = range(i + 1).filter((j) => sees({ size, sinks }, i, j));
        const distances = keys.map((j) => (j < sinks ? Math.min(i, size - 1) - j : i - j));
        expect([...letThrough(window, i)]).toEqual(keys.map((j, at) => [j, distances[at]]));
        expect(keys.length).toBe(Math.min(i + 1, size));
      }
    });

    it(`of ${size} with ${sinks} sinks is full attention up to ${size} tokens`, () => {
      const seen = (window: Window, i: number): number[] => [
        sinkEnd(window, i),
        sinkPosition(window, i),
        windowStart(window, i),
      ];
      for (let i = 0; i < size; i++) expect(seen(window, i)).toEqual(seen(fullWindow, i));
    });

    it(`of ${size} with ${sinks} sinks passes a page when no later row sees it`, () => {
      for (const pageTokens of [1, 4, 16])
        for (let i = 0; i < 4 * size; i++) {
          const kept = sinkPages(window, pageTokens);
          const passed = passedPages(window, i, pageTokens);
          const needed = (page: number): boolean =>
            range(pageTokens).some((at) => sees({ size, sinks }, i, page * pageTokens + at)) ||
            page >= Math.floor(i / pageTokens);
          const pages = range(Math.floor(i / pageTokens) + 2);
          const dropped = pages.filter((page) => page >= kept && page < kept + passed);
          expect(dropped).toEqual(pages.filter((page) => !needed(page)));
        }
    });

    for (const [name, chunks] of Object.entries({
      "token by token": [1],
      "in chunks of 5": [5],
      "in chunks of 3, 1, 16": [3, 1, 16],
      "at once": [4 * size],
    }))
      it(`of ${size} with ${sinks} sinks holds ${name} in the layouts of a cache`, () => {
        const { cache, memory } = cacheOf({ pages: 200, maxRows: 4 * size });
        const sequence: NaiveSequence = { tokens: [], window: { size, sinks } };
        cache.add(0);
        cache.enableSlidingWindow(0, size, sinks);
        for (let step = 0; sequence.tokens.length < 4 * size; step++) {
          const rows = Math.min(chunks[step % chunks.length], 4 * size - sequence.tokens.length);
          const tokens = range(rows).map((at) => 1 + sequence.tokens.length + at);
          expectForward(cache.beginForward([0], [rows]), memory, [{ sequence, tokens }]);
          cache.endForward();
          sequence.tokens.push(...tokens);
        }
      });
  }

  it("refuses sizes and sinks that make no window", () => {
    for (const [size, sinks] of [
      [0, 0],
      [-1, 0],
      [1.5, 0],
      [NaN, 0],
      [8, 8],
      [8, -1],
      [8, 0.5],
      [8, NaN],
    ])
      expect(() => slidingWindow(size, sinks)).toThrow(/expected a whole number/);
  });

  it("without a window sees everything and passes nothing", () => {
    for (const i of [0, 1, 100]) {
      expect([...letThrough(fullWindow, i).keys()]).toEqual(
        range(i + 1).filter((j) => sees(noWindow, i, j)),
      );
      expect(passedPages(fullWindow, i, 4)).toBe(0);
    }
  });
});
