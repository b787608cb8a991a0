// The compiled functions of a model called one by one, as another engine on top would: embed, prefill, decode, batches,
// forks and pops over one paged cache.
// In your project: import { … } from "tramontane";
import {
  bindWeights,
  compileModule,
  MistralConfig,
  MistralForCausalLM,
  openCheckpoint,
} from "../src/index.ts";

const path = new URL("../test/goldens/mistral-tiny/gqa", import.meta.url).pathname;
await using checkpoint = await openCheckpoint(path);
const config = MistralConfig.parse(checkpoint.config.json, { where: checkpoint.config.where });
const definition = new MistralForCausalLM(config);
const weights = bindWeights(checkpoint, definition, { headDim: config.head_dim });
console.log(Object.keys(definition.getDefaultSpec()).join(" "));

await using model = await compileModule(definition, weights, { chunk: 64 });
using cache = await model.create_paged_kv_cache({ max_batch_size: 4, max_total_seq_len: 512 });

const best = (logits: Float32Array): number =>
  logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
/** One forward over some sequences: the cache makes room, the function runs, the cache counts the tokens. */
async function step(
  ids: number[],
  lengths: number[],
  run: () => Promise<Float32Array>,
): Promise<Float32Array> {
  cache.beginForward(ids, lengths);
  const logits = await run();
  cache.endForward();
  return logits;
}

const prompt = [1, 17, 42, 99, 7];
cache.add(0);
const afterPrompt = await step([0], [5], async () =>
  model.prefill(await model.embed(prompt), cache),
);
console.log("after the prompt:", best(afterPrompt)); // [1, 1, vocab]

const decoded = await step([0], [1], async () =>
  model.decode(await model.embed([best(afterPrompt)]), cache),
);
console.log("one token later:", best(decoded));

// Two continuations of the same prompt: the pages of the prompt are shared.
cache.popN(0, 1);
cache.fork(0, 1);
const two = await step([0, 1], [1, 1], async () =>
  model.batch_decode(await model.embed([10, 11]), cache),
);
const { vocab } = model.shape;
console.log("two futures:", best(two.subarray(0, vocab)), best(two.subarray(vocab))); // [2, 1, vocab]

// A ragged batch: a new sequence is prefilled beside the others; logits of the last row of each.
cache.add(2);
const rows = [20, 21, 1, 5, 9];
const ragged = await step([0, 1, 2], [1, 1, 3], async () =>
  model.batch_prefill(await model.embed(rows), [0, 1, 4], cache),
);
console.log("ragged:", ragged.length / vocab, "rows of logits");

// Logits of every position, as a verifier of drafted tokens needs them; then the drafts that were wrong go.
const verified = await step([2], [4], async () =>
  model.batch_verify(await model.embed([2, 3, 4, 5]), cache),
);
console.log("verified:", verified.length / vocab, "positions");
cache.popN(2, 2);
console.log("tokens in the cache:", cache.totalSequenceLength, "free pages:", cache.availablePages);
