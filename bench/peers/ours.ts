/** Tramontane as a contestant: what `load` does, with the cache in our hands. */
import { argMax } from "../../src/engine/sampler.ts";
import { compileModule, prepare } from "../../src/load.ts";
import { serve, type Contestant, type Settings } from "./contestant.ts";

const sequence = 0;

async function open({ path, threads, context }: Settings): Promise<Record<string, Contestant>> {
  await using prepared = await prepare(path, { threads, context });
  const model = await compileModule(prepared.module, prepared.weights, prepared.compile);
  const cache = await model.create_paged_kv_cache({
    max_batch_size: 1,
    max_total_seq_len: context,
    support_sliding_window: false,
  });
  const append = (tokens: readonly number[]): Promise<Float32Array> =>
    model.forward(cache, [{ id: sequence, tokens }], "last");
  const contestant: Contestant = {
    async clear() {
      if (cache.has(sequence)) cache.remove(sequence);
      cache.add(sequence);
    },
    async prefill(ids) {
      const { maxRows } = model.shape;
      for (let at = 0; at < ids.length; at += maxRows) await append(ids.slice(at, at + maxRows));
    },
    async decode(ids) {
      for (const id of ids) argMax(await append([id]));
    },
    async truncate(length) {
      cache.truncate(sequence, length);
    },
  };
  return { default: contestant };
}

serve(open);
