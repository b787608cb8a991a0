import { describe, expect, it } from "vitest";
import type { LoadOptions } from "../../src/index.ts";
import { goldenPath, logitsOf, subject } from "./cases.ts";

/** The determinism contract: the same bits whatever the chunk, the threads, the batch and the history of the cache. */
const bundled = new URL("../../models/smollm2-135m-instruct", import.meta.url).pathname;
const models: readonly (readonly [name: string, path: string, options: LoadOptions])[] = [
  ["bundled, int8", bundled, {}],
  ["bundled, two digits, f16 cache", bundled, { activations: "i16", kv: "f16" }],
  ["q4_k_m, q8 cache", goldenPath("kquants-tiny/model-q4_k_m.gguf"), { kv: "q8" }],
  ["f32 with a window", goldenPath("window/model"), { slidingWindow: 33, sinks: 4 }],
  ["sizes that fit no tile", goldenPath("mistral-tiny/odd-sizes"), {}],
];

/** A prompt that crosses pages of 16 and spans of 128. */
const promptOf = (length: number, seed = 1): number[] =>
  Array.from({ length }, (_, at) => 3 + ((at * 7919 + seed * 104_729) % 230));
const bits = (values: Float32Array): Int32Array =>
  new Int32Array(values.buffer, values.byteOffset, values.length);

describe("determinism", () => {
  for (const [name, path, options] of models) {
    it(`${name}: every chunk and thread count gives the same bits`, async () => {
      const ids = promptOf(150);
      await using two = await subject(path, { ...options, threads: 2 });
      await using one = await subject(path, { ...options, threads: 1 });
      await using three = await subject(path, { ...options, threads: 3 });
      const expected = bits(await logitsOf(two, ids, 512));
      for (const chunk of [1, 7, 16, 64])
        expect(bits(await logitsOf(two, ids, chunk)), `chunk ${chunk}`).toEqual(expected);
      expect(bits(await logitsOf(one, ids, 512)), "one thread").toEqual(expected);
      expect(bits(await logitsOf(one, ids, 1)), "one thread, decode").toEqual(expected);
      expect(bits(await logitsOf(three, ids, 64)), "three threads").toEqual(expected);
      const prefix = bits(await logitsOf(two, ids.slice(0, 77), 512));
      expect(prefix, "a prefix").toEqual(expected.subarray(0, prefix.length));
    });

    it(`${name}: a ragged batch of new, forked and popped sequences gives the bits of each alone`, async () => {
      await using on = await subject(path, options);
      const { model, cache } = on;
      const { vocab } = model.shape;
      const histories = [
        promptOf(21, 1),
        promptOf(20, 2),
        promptOf(13, 2),
        promptOf(9, 4),
        promptOf(26, 5),
      ];
      const tails = [
        promptOf(1, 6),
        promptOf(17, 7),
        promptOf(5, 8),
        promptOf(1, 9),
        promptOf(30, 10),
      ];
      const feed = (id: number, tokens: readonly number[]): Promise<Float32Array> =>
        model.forward(cache, [{ id, tokens }], "all");
      for (const id of [0, 1, 3, 4]) {
        on.add(id);
        await feed(id, histories[id]);
      }
      cache.fork(1, 2, 13); // promptOf(20, 2) begins with promptOf(13, 2)
      await feed(4, promptOf(7, 11));
      cache.popN(4, 7);
      const together = await model.forward(
        cache,
        tails.map((tokens, id) => ({ id, tokens })),
        "all",
      );
      cache.clear();
      let row = 0;
      for (const [id, tail] of tails.entries()) {
        const alone = await logitsOf(on, [...histories[id], ...tail], 512);
        const expected = bits(alone.subarray(histories[id].length * vocab));
        const ours = bits(together.subarray(row * vocab, (row + tail.length) * vocab));
        expect(ours, `sequence ${id}`).toEqual(expected);
        row += tail.length;
      }
    });
  }
});
