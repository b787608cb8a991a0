// A conversation with the bundled model: streaming, progress, sampling, stopping early.
// In your project: import { load } from "tramontane";
import { load } from "../src/index.ts";

const model = new URL("../models/smollm2-135m-instruct", import.meta.url).pathname;

await using engine = await load(model, {
  onProgress: (progress) => {
    if (progress.phase !== "weights") console.error(progress.phase);
  },
});

const messages = [{ role: "user", content: "Name the capital of France." }];
for await (const delta of engine.chat(messages, { maxTokens: 32 })) {
  if (delta.kind === "text") process.stdout.write(delta.text);
  if (delta.kind === "end")
    console.log(`\n[${delta.reason}, ${delta.usage.completionTokens} tokens]`);
}

// A raw prompt, sampled: the same seed gives the same text.
const sampling = { temperature: 0.8, topP: 0.95, seed: 7, maxTokens: 24, stop: ["\n"] };
for await (const delta of engine.generate("Once upon a time", sampling))
  if (delta.kind === "text") process.stdout.write(delta.text);
console.log();

// Leaving the loop, or an AbortSignal, ends a generation; the engine is free for the next.
const signal = AbortSignal.timeout(50);
try {
  for await (const _ of engine.generate("Count to a thousand: 1, 2, 3,", { signal }));
} catch (error) {
  console.log(error instanceof Error ? error.message : error);
}

// Logits of every position of a text.
const ids = engine.tokenizer.encode("The capital of France is");
for await (const { first, rows } of engine.logits(ids)) {
  const { vocab } = engine.model.shape;
  const last = rows.subarray(rows.length - vocab);
  const best = last.indexOf(last.reduce((a, b) => Math.max(a, b)));
  const count = rows.length / vocab;
  console.log(
    `positions ${first} to ${first + count - 1}; then "${engine.tokenizer.decode([best])}"`,
  );
}
