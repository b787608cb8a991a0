/**
 * SHA-256 of the logits of tiny models, one a line: the same on every engine and machine. Run as a program on any engine it
 * prints them: `node test/golden/hashes.ts`, `deno run -A …`, `bun …`.
 */
import { createHash } from "node:crypto";
import { compileModule, prepare, type LoadOptions } from "../../src/index.ts";

const goldens = new URL("../goldens/", import.meta.url).pathname;
const subjects: readonly (readonly [path: string, options: LoadOptions])[] = [
  ["mistral-tiny/gqa", {}],
  ["mistral-tiny/odd-sizes", {}],
  ["mistral-tiny/sharded-f16", { kv: "f16" }],
  ["mistral-tiny/mha-bf16", { kv: "q8" }],
  ["window/model", { slidingWindow: 16, sinks: 4 }],
  ["mistral-tiny/gguf/model-q4_0.gguf", {}],
  ["mistral-tiny/gguf/model-q5_1.gguf", {}],
  ["mistral-tiny/gguf/model-q8_0.gguf", {}],
  ["mistral-tiny/gguf/model-q8_0.gguf", { activations: "i16" }],
  ["kquants-tiny/model-q2_k.gguf", {}],
  ["kquants-tiny/model-q3_k_m.gguf", {}],
  ["kquants-tiny/model-q4_k_m.gguf", {}],
  ["kquants-tiny/model-q6_k.gguf", { activations: "i16", kv: "q8" }],
];

/** The subject's name → the hash of the logits of 150 tokens. */
export async function logitHashes(): Promise<Record<string, string>> {
  const hashes: Record<string, string> = {};
  for (const [path, options] of subjects) {
    await using prepared = await prepare(goldens + path, { chunk: 64, threads: 2, ...options });
    await using model = await compileModule(prepared.module, prepared.weights, prepared.compile);
    using cache = await model.create_paged_kv_cache({ max_batch_size: 1, max_total_seq_len: 512 });
    cache.add(0);
    if (prepared.window) cache.enableSlidingWindow(0, prepared.window.size, prepared.window.sinks);
    const hash = createHash("sha256");
    const ids = Array.from({ length: 150 }, (_, at) => 3 + ((at * 7919) % 200));
    for (let first = 0; first < ids.length; first += 64) {
      const append = { id: 0, tokens: ids.slice(first, first + 64) };
      hash.update(new Uint8Array((await model.forward(cache, [append], "all")).buffer));
    }
    hashes[`${path} ${JSON.stringify(options)}`] = hash.digest("hex");
  }
  return hashes;
}

if (import.meta.main) console.log(JSON.stringify(await logitHashes(), null, 2));
