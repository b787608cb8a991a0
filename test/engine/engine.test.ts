import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { load, type Delta } from "../../src/index.ts";
import { goldenPath, readJson } from "../golden/cases.ts";

const folder = mkdtempSync(join(tmpdir(), "tramontane-engine-"));
afterAll(() => rmSync(folder, { recursive: true }));

const vocab = 320;
const prompt = [1, 17, 42, 99, 7];

/** The model `gqa` beside a tokenizer of made-up pieces; `end` is the one that its config names as the end token. */
function withTokenizer(name: string, end: number): string {
  const path = join(folder, name);
  cpSync(goldenPath("mistral-tiny/gqa"), path, { recursive: true });
  const pieces = Array.from({ length: vocab }, (_, id) => [`t${id}`, id] as const);
  const tokenizer = {
    added_tokens: [{ id: end, content: "<end>", special: true }],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false },
    decoder: { type: "ByteLevel" },
    post_processor: null,
    model: { type: "BPE", vocab: Object.fromEntries(pieces), merges: [] },
  };
  const { eos_token_id: _, ...config } = readJson<Record<string, unknown>>(
    join(path, "config.json"),
  );
  writeFileSync(join(path, "config.json"), JSON.stringify(config));
  writeFileSync(join(path, "tokenizer.json"), JSON.stringify(tokenizer));
  writeFileSync(join(path, "tokenizer_config.json"), JSON.stringify({ eos_token: "<end>" }));
  return path;
}

async function generate(path: string): Promise<{ ids: number[]; reason: string }> {
  await using engine = await load(path, { device: "interpreter" });
  const found = { ids: [] as number[], reason: "" };
  for await (const delta of engine.generate(prompt, { maxTokens: 4 }) as AsyncIterable<Delta>) {
    if (delta.kind === "text") found.ids.push(...delta.ids);
    if (delta.kind === "end") found.reason = delta.reason;
  }
  return found;
}

describe("a generation", () => {
  it("ends at the tokenizer's end token where the checkpoint names none itself", async () => {
    const free = await generate(withTokenizer("free", 0));
    expect(free).toMatchObject({ reason: "length" });
    const [first] = free.ids;
    expect(await generate(withTokenizer("ended", first))).toEqual({ ids: [first], reason: "stop" });
  });

  it("is the same whatever the cache still holds, and says how much of the prompt that was", async () => {
    await using engine = await load(withTokenizer("cached", 0), { device: "interpreter" });
    const run = async (ids: readonly number[], leave = false): Promise<Delta[]> => {
      const deltas: Delta[] = [];
      for await (const delta of engine.generate(ids, { maxTokens: 4, temperature: 1, seed: 3 })) {
        deltas.push(delta);
        if (leave && delta.kind === "text") break;
      }
      return deltas;
    };
    const cachedOf = (deltas: readonly Delta[]): number[] =>
      deltas.flatMap((delta) => (delta.kind === "end" ? [delta.usage.cachedTokens] : []));
    const textOf = (deltas: readonly Delta[]): Delta[] =>
      deltas.filter(({ kind }) => kind === "text");
    const first = await run(prompt);
    expect(cachedOf(first)).toEqual([0]);
    const again = await run(prompt);
    expect(cachedOf(again)).toEqual([prompt.length - 1]);
    await run([...prompt.slice(0, 3), 5, 6], true);
    const after = await run(prompt);
    expect(cachedOf(after)).toEqual([3]);
    expect([textOf(again), textOf(after)]).toEqual([textOf(first), textOf(first)]);
    const both = await Promise.all([run(prompt), run(prompt)]);
    expect(both.map(textOf)).toEqual([textOf(first), textOf(first)]);
  });

  it("of a text that no tokens of the context can hold is refused before it is tokenised", async () => {
    const options = { device: "interpreter", context: 10 } as const;
    await using engine = await load(withTokenizer("short", 0), options);
    const { longest } = engine.tokenizer;
    expect(longest).toBe("<end>".length);
    expect(engine.encode("~".repeat(10 * longest))).toEqual([]); // no piece has it
    const refused = () => engine.encode("~".repeat(10 * longest + 1));
    expect(refused).toThrow(
      "the prompt has at least 11 tokens, which do not fit the context of 10",
    );
  });
});
