/**
 * Endless text under a sliding window: text of any length must cost what a window costs, in time and in memory. Two sequences,
 * one `--near` (2 W) and one `--far` (20 W) tokens long, take turns on the bundled model, so that other work on the machine
 * meets both alike. `npm run bench:window -- [--window 512] [--sinks 4] [--near N] [--far N] [--step 1] [--rounds 16]`; `--step`:
 * tokens of a forward on the way to the two lengths.
 */
import { argMax } from "../src/engine/sampler.ts";
import { compileModule, prepare } from "../src/index.ts";
import { CommandLine } from "./command-line.ts";
import { median } from "./report.ts";

const commandLine = new CommandLine(
  "npm run bench:window -- [--model FILE] [--window 512] [--sinks 4] [--near N] [--far N] [--step 1] [--rounds 16]",
);
const text = { type: "string" } as const;
const values = commandLine.options({
  model: text,
  window: text,
  sinks: text,
  near: text,
  far: text,
  step: text,
  rounds: text,
});
const bundled = new URL("../models/smollm2-135m-instruct", import.meta.url).pathname;
const whole = (name: Exclude<keyof typeof values, "model">, absent: number, least = 1): number =>
  commandLine.wholeNumbers(name, values[name] ?? String(absent), least)[0];
const [window, sinks] = [whole("window", 512), whole("sinks", 4, 0)];
const [near, far] = [whole("near", 2 * window), whole("far", 20 * window)];
const [step, rounds] = [whole("step", 1), whole("rounds", 16)];
const stepsOfTurn = 32;

await using prepared = await prepare(values.model ?? bundled, { slidingWindow: window, sinks });
await using model = await compileModule(prepared.module, prepared.weights, prepared.engine);
const sequences = [near, far].map((length, id) => ({ id, length, ms: [] as number[] }));
using cache = await model.create_paged_kv_cache({
  max_batch_size: sequences.length,
  max_total_seq_len: sequences.length * prepared.cacheTokens,
});

const megabytes = (): number => process.memoryUsage().rss / 2 ** 20;
/** The most likely next token, as generation takes it. */
const append = async (id: number, tokens: readonly number[]): Promise<number> => {
  return argMax(await model.forward(cache, [{ id, tokens }], "last"));
};

const mb: number[] = [];
let next = 1;
for (const { id, length } of sequences) {
  cache.add(id);
  cache.enableSlidingWindow(id, window, sinks);
  for (let at = 0; at < length;) {
    const tokens = Array.from({ length: Math.min(step, length - at) }, () => next);
    next = await append(id, tokens);
    if (Math.floor(at / window) < Math.floor((at += tokens.length) / window))
      console.error(`${at} tokens, ${megabytes().toFixed(0)} MB`);
  }
  mb.push(megabytes());
}

/** Medians of a turn each; the first of a round is the second of the next. */
for (let round = 0; round < rounds; round++) {
  for (const { id, ms } of round % 2 ? sequences.toReversed() : sequences) {
    const steps: number[] = [];
    for (let n = 0; n < stepsOfTurn; n++) {
      const start = performance.now();
      next = await append(id, [next]);
      steps.push(performance.now() - start);
    }
    ms.push(median(steps));
  }
}
const [early, late] = sequences.map(({ ms }) => ms);
const ratio = median(late.map((ms, round) => ms / early[round]));
console.error(`ms a token at ${near} and at ${far} tokens, by round:`);
early.forEach((ms, round) => console.error(`${ms.toFixed(2)}  ${late[round].toFixed(2)}`));
console.log(
  JSON.stringify({ window, sinks, near, far, early: median(early), late: median(late), ratio, mb }),
);
