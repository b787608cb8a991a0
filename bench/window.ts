/**
 * Endless text under a sliding window: time per token and memory at 2 W and at 20 W tokens. Text of any length must cost what
 * a window costs. `node bench/window.ts [--window 512] [--sinks 4] [--times 20]`, on the bundled model.
 */
import { parseArgs } from "node:util";
import { load } from "../src/index.ts";

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
await using engine = await load(values.model, { slidingWindow: window, sinks });

const megabytes = (): number => process.memoryUsage().rss / 2 ** 20;
const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[numbers.length >> 1];

/** Milliseconds of each new token. */
const steps: number[] = [];
const rows: { tokens: number; msPerToken: number; mb: number }[] = [];
let last = performance.now();
const prompt = engine.tokenizer.encode("Once upon a time");
for await (const delta of engine.generate(prompt, {
  maxTokens: times * window,
  temperature: 1,
  seed: 1,
  stopTokens: [],
})) {
  if (delta.kind !== "text") continue;
  const now = performance.now();
  for (const _ of delta.ids) steps.push((now - last) / delta.ids.length);
  last = now;
  if (steps.length >= (rows.length + 1) * window) {
    const msPerToken = median(steps.slice(-window));
    rows.push({ tokens: steps.length, msPerToken, mb: megabytes() });
    console.error(
      `${steps.length} tokens: ${msPerToken.toFixed(2)} ms a token, ${megabytes().toFixed(0)} MB`,
    );
  }
}
const at = (windows: number): (typeof rows)[number] => rows[Math.min(rows.length, windows) - 1];
const ratio = at(times).msPerToken / at(2).msPerToken;
console.log(
  JSON.stringify({ window, sinks, tokens: steps.length, rows: [at(2), at(times)], ratio }),
);
