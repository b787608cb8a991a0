/** wllama as a contestant: llama.cpp compiled to WebAssembly, on the CPU. */
import { perSecond, type Contestant, type Settings } from "./contestant.ts";

/** What we use of it; its own types are there only where it is installed. */
interface Wllama {
  loadModel(blobs: readonly Blob[], options: object): Promise<void>;
  createCompletion(options: object): Promise<{ readonly timings: Timings }>;
}
/** What its server measures, without the way to the page. */
interface Timings {
  readonly cache_n: number;
  readonly prompt_n: number;
  readonly prompt_ms: number;
  readonly predicted_n: number;
  readonly predicted_ms: number;
}
interface Library {
  readonly Wllama: new (paths: object, config: object) => Wllama;
}

const folder = "/bench/browser/node_modules/@wllama/wllama/esm/";
const ways = {
  flash: { flash_attn: true },
  plain: { flash_attn: false },
  "plain f32": { flash_attn: false, cache_type_k: "f32", cache_type_v: "f32" },
} as const;

/** The cheapest choice, no end of text, and nothing kept from the prompt before. */
const greedy = { samplers: ["top_k"], top_k: 1, ignore_eos: true, cache_prompt: false } as const;

export async function open({
  url,
  threads,
  context,
}: Settings): Promise<Record<string, Contestant>> {
  const { Wllama } = (await import(`${folder}index.js`)) as Library;
  const blob = await (await fetch(url)).blob();
  const contestants: Record<string, Contestant> = {};
  for (const [name, way] of Object.entries(ways)) {
    const wllama = new Wllama(
      { default: `${folder}wasm/wllama.wasm` },
      { suppressNativeLog: true },
    );
    const sizes = { n_ctx: context, n_batch: 512, n_ubatch: 512, n_parallel: 1 };
    await wllama.loadModel([blob], { n_threads: threads, n_gpu_layers: 0, ...sizes, ...way });
    contestants[name] = contestant(wllama);
  }
  return contestants;
}

const contestant = (wllama: Wllama): Contestant => ({
  async run({ text, tokens }, steps) {
    const { timings } = await wllama.createCompletion({
      prompt: text,
      max_tokens: steps + 1,
      ...greedy,
    });
    const { cache_n, prompt_n, prompt_ms, predicted_n, predicted_ms } = timings;
    if (cache_n !== 0 || prompt_n !== tokens || predicted_n !== steps + 1)
      throw new Error(`wllama did other work than asked: ${JSON.stringify(timings)}`);
    return {
      prefill: perSecond(prompt_n, prompt_ms),
      decode: perSecond(predicted_n, predicted_ms),
    };
  },
});
