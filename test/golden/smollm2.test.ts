import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { load, type Engine } from "../../src/index.ts";
import {
  goldenPath,
  indexOfLargest,
  logitsOf,
  logSoftmax,
  readF32,
  readJson,
  subject,
} from "./cases.ts";

/** The bundled model against the reference of its dequantised weights (test/goldens/smollm2/README.md). */
const bundled = new URL("../../models/smollm2-135m-instruct", import.meta.url).pathname;
const golden = (name: string): string => goldenPath("smollm2", name);
const known = 64;

interface Prompt {
  readonly name: string;
  readonly ids: readonly number[];
  readonly topRow: number;
}
interface Greedy extends Prompt {
  readonly messages: readonly { role: string; content: string }[];
  readonly tokens: readonly number[];
  readonly completion: string;
  readonly gaps: readonly number[];
}

function readTyped<T>(name: string, make: (buffer: ArrayBuffer) => T): T {
  const bytes = readFileSync(golden(name));
  return make(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

/** Mean over all rows of KL(reference ‖ ours) by the README's estimate: the 64 largest and the rest, nats. */
async function meanKl(activations: "i8" | "i16"): Promise<number> {
  const topIds = readTyped("top-ids.i32", (buffer) => new Int32Array(buffer));
  const topLogits = readF32(golden("top-logits.f32"));
  const logSumExp = readTyped("logsumexp.f64", (buffer) => new Float64Array(buffer));
  await using on = await subject(bundled, { activations });
  const { vocab } = on.model.shape;
  let total = 0;
  let rows = 0;
  for (const { ids, topRow } of readJson<Prompt[]>(golden("prompts.json"))) {
    const logits = await logitsOf(on, ids, 512);
    ids.forEach((_, position) => {
      const logQ = logSoftmax(logits.subarray(position * vocab, (position + 1) * vocab));
      const row = topRow + position;
      let [kl, restP, restQ] = [0, 1, 1];
      for (let at = row * known; at < (row + 1) * known; at++) {
        const logP = topLogits[at] - logSumExp[row];
        kl += Math.exp(logP) * (logP - logQ[topIds[at]]);
        restP -= Math.exp(logP);
        restQ -= Math.exp(logQ[topIds[at]]);
      }
      total += kl + (restP > 0 && restQ > 0 ? restP * Math.log(restP / restQ) : 0);
      rows++;
    });
  }
  return total / rows;
}

async function perplexity(activations: "i8" | "i16"): Promise<number> {
  const { ids } = readJson<{ ids: number[] }>(golden("perplexity.json"));
  await using on = await subject(bundled, { activations });
  const { vocab } = on.model.shape;
  const logits = await logitsOf(on, ids, 512);
  let sum = 0;
  for (let at = 1; at < ids.length; at++)
    sum += logSoftmax(logits.subarray((at - 1) * vocab, at * vocab))[ids[at]];
  return Math.exp(-sum / (ids.length - 1));
}

async function answer(
  engine: Engine,
  messages: Greedy["messages"],
): Promise<{ ids: number[]; text: string }> {
  const found = { ids: [] as number[], text: "" };
  for await (const delta of engine.chat(messages, { maxTokens: 64 }))
    if (delta.kind === "text") {
      found.ids.push(...delta.ids);
      found.text += delta.text;
    }
  return found;
}

describe("the bundled model", () => {
  it("with int8 activations is within 2e-3 nats of the reference", async () => {
    const kl = await meanKl("i8");
    console.log(`mean KL, int8: ${kl.toExponential(3)}`);
    expect(kl).toBeLessThanOrEqual(2e-3);
  });

  it("with two digits is within 1e-5 nats of the reference", async () => {
    const kl = await meanKl("i16");
    console.log(`mean KL, two digits: ${kl.toExponential(3)}`);
    expect(kl).toBeLessThanOrEqual(1e-5);
  });

  it("has the reference's perplexity: to 0.8 % with int8, to 0.01 % with two digits", async () => {
    const { perplexity: reference } = readJson<{ perplexity: number }>(golden("perplexity.json"));
    const [one, two] = [await perplexity("i8"), await perplexity("i16")];
    console.log(`perplexity: reference ${reference}, int8 ${one}, two digits ${two}`);
    expect(Math.abs(one / reference - 1)).toBeLessThanOrEqual(8e-3);
    expect(Math.abs(two / reference - 1)).toBeLessThanOrEqual(1e-4);
  });

  it("with two digits answers token for token as the reference", async () => {
    await using engine = await load(bundled, { activations: "i16", threads: 2 });
    for (const { name, messages, ids, tokens, completion } of readJson<Greedy[]>(
      golden("greedy.json"),
    )) {
      expect(engine.encode(messages), name).toEqual(ids);
      const found = await answer(engine, messages);
      expect(found.ids, name).toEqual(tokens);
      expect(found.text, name).toBe(completion);
    }
  });

  it("with int8 makes the reference's choice wherever its gap is at least 0.5", async () => {
    await using on = await subject(bundled);
    const { vocab } = on.model.shape;
    for (const { name, ids, tokens, gaps } of readJson<Greedy[]>(golden("greedy.json"))) {
      const logits = await logitsOf(on, [...ids, ...tokens.slice(0, -1)], 512);
      tokens.forEach((token, step) => {
        const row = ids.length - 1 + step;
        const choice = indexOfLargest(logits.subarray(row * vocab, (row + 1) * vocab));
        if (gaps[step] >= 0.5) expect(choice, `${name}, step ${step}`).toBe(token);
      });
    }
  });
});
