/** Tramontane as a contestant: what `load` does, with the cache in our hands. */
import { argMax } from "../../src/engine/sampler.ts";
import { compileModule, prepare } from "../../src/load.ts";
import { createTokenizer } from "../../src/text/tokenizer.ts";
import { perSecond, type Contestant, type Settings } from "./contestant.ts";

const sequence = 0;

export async function open({
  url,
  threads,
  context,
}: Settings): Promise<Record<string, Contestant>> {
  await using prepared = await prepare(url, { threads, context });
  const model = await compileModule(prepared.module, prepared.weights, prepared.engine);
  const cache = await model.create_paged_kv_cache({
    max_batch_size: 1,
    max_total_seq_len: context,
    support_sliding_window: false,
  });
  const { encode, bos = 0 } = createTokenizer(prepared.checkpoint.tokenizer);
  /** Appends tokens; the greedy choice of the next. */
  const append = async (tokens: readonly number[]): Promise<number> =>
    argMax(await model.forward(cache, [{ id: sequence, tokens }], "last"));
  const run: Contestant["run"] = async ({ text, tokens }, steps) => {
    const ids = [bos, ...encode(text)];
    if (ids.length !== tokens) throw new Error(`expected ${tokens} tokens, got ${ids.length}`);
    if (cache.has(sequence)) cache.remove(sequence);
    cache.add(sequence);
    const start = performance.now();
    let next = await append(ids);
    const middle = performance.now();
    for (let step = 0; step < steps; step++) next = await append([next]);
    const end = performance.now();
    return {
      prefill: perSecond(tokens, middle - start),
      decode: perSecond(steps, end - middle),
    };
  };
  return { default: { run } };
}
