import { throwIfAborted } from "../base/errors.ts";
import { uniform } from "../engine/sampler.ts";
import type { CompiledModel, Prepared } from "../index.ts";

export interface Work {
  /** Tokens of a prompt. */
  readonly pp: number;
  /** Tokens that are generated. */
  readonly tg: number;
  /** Tokens that lie before them. */
  readonly depth: readonly number[];
  readonly repetitions: number;
}

export interface Speed {
  readonly kind: "prefill" | "decode";
  readonly tokens: number;
  readonly depth: number;
  /** The median. */
  readonly tokens_per_s: number;
}

/** Feeds a model random tokens and measures how fast it takes them. */
export async function* measureSpeeds(
  model: CompiledModel,
  { cacheTokens, window }: Prepared,
  { pp, tg, depth: depths, repetitions }: Work,
  signal: AbortSignal,
): AsyncGenerator<Speed> {
  const { vocab, maxRows } = model.shape;
  using cache = await model.create_paged_kv_cache({
    max_batch_size: 2,
    max_total_seq_len: window ? 2 * cacheTokens : cacheTokens,
    support_sliding_window: window !== undefined,
  });
  const feed = async (id: number, count: number, step: number): Promise<void> => {
    for (let first = 0; first < count; first += step) {
      throwIfAborted(signal);
      const length = Math.min(step, count - first);
      const random = (at: number): number => Math.floor(uniform(id, first + at) * vocab);
      const tokens = Array.from({ length }, (_, at) => random(at));
      await model.forward(cache, [{ id, tokens }], "last");
    }
  };
  /** Milliseconds that tokens take in a fork of what lies before, which is thrown away. */
  const timed = async (tokens: number, step: number): Promise<number> => {
    cache.fork(0, 1);
    const start = performance.now();
    await feed(1, tokens, step);
    const ms = performance.now() - start;
    cache.remove(1);
    return ms;
  };
  const median = async (tokens: number, step: number): Promise<number> => {
    await timed(Math.min(tokens, 8 * step), step); // warms up
    const times: number[] = [];
    for (let n = 0; n < repetitions; n++) times.push(await timed(tokens, step));
    return times.sort((a, b) => a - b)[Math.floor(repetitions / 2)];
  };
  for (const depth of depths) {
    cache.add(0);
    if (window) cache.enableSlidingWindow(0, window.size, window.sinks);
    await feed(0, depth, maxRows);
    for (const [kind, tokens, step] of [
      ["prefill", pp, maxRows],
      ["decode", tg, 1],
    ] as const)
      if (tokens > 0)
        yield { kind, tokens, depth, tokens_per_s: (1000 * tokens) / (await median(tokens, step)) };
    cache.remove(0);
  }
}
