/**
 * Endless text under a sliding window: time per token and memory at 2 W and at 20 W tokens. Text of any length must cost what
 * a window costs. `node bench/window.ts [--window 512] [--sinks 4] [--times 20]`, on the bundled model.
 */
import { parseArgs } from "node:util";
import { compileModule, prepare } from "../src/index.ts";

const { values } = parseArgs({
  options: {
    model: {
      type: "string",
      default: new URL("../models/smollm2-135m-instruct", import.meta.url).pathname,
    },
    window: { type: "string", default: "512" },
    sinks: { type: "string", default: "4" },
    times: { type: "string", default: "20" },
  },
});
const [window, sinks, times] = [values.window, values.sinks, values.times].map(Number);
await using prepared = await prepare(values.model, { slidingWindow: window, sinks });
await using model = await compileModule(prepared.module, prepared.weights, prepared.engine);
using cache = await model.create_paged_kv_cache({
  max_batch_size: 1,
  max_total_seq_len: prepared.cacheTokens,
});
cache.add(0);
cache.enableSlidingWindow(0, window, sinks);

const megabytes = (): number => process.memoryUsage().rss / 2 ** 20;
const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[numbers.length >> 1];

/** Milliseconds of each new token. */
const steps: number[] = [];
const rows: { tokens: number; msPerToken: number; mb: number }[] = [];
let id = 1;
while (steps.length < times * window) {
  const start = performance.now();
  const logits = await model.forward(cache, [{ id: 0, tokens: [id] }], "last");
  id = logits.reduce((best, value, at) => (value > logits[best] ? at : best), 0);
  steps.push(performance.now() - start);
  if (steps.length % window > 0) continue;
  const msPerToken = median(steps.slice(-window));
  rows.push({ tokens: steps.length, msPerToken, mb: megabytes() });
  console.error(
    `${steps.length} tokens: ${msPerToken.toFixed(2)} ms a token, ${megabytes().toFixed(0)} MB`,
  );
}
/** Medians of four windows each, as other work on a machine disturbs single ones: from W on, and the last. */
const span = 4 * window;
const [early, late] = [steps.slice(window, window + span), steps.slice(-span)].map(median);
const mb = [rows[1].mb, rows[rows.length - 1].mb];
console.log(
  JSON.stringify({ window, sinks, tokens: steps.length, early, late, mb, ratio: late / early }),
);
