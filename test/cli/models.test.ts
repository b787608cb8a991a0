import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { casesOf, compare, readF32, readJson } from "../golden/cases.ts";
import { golden, json, start, TemporaryFolder, tramontane } from "./tramontane.ts";

const gqa = golden("mistral-tiny/gqa");
const greedy = readJson<{ name: string; ids: number[]; tokens: number[]; completion: string }[]>(
  golden("smollm2/greedy.json"),
);
const question = "Name the capital of France.";

interface Answer {
  readonly text: string;
  readonly ids: number[];
  readonly prompt_ids: number[];
  readonly finish_reason: string;
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly timing: Readonly<Record<string, number | null>>;
}
interface Score {
  readonly tokens: number;
  readonly logprobs: (number | null)[];
  readonly mean_logprob: number;
  readonly perplexity: number;
}

describe("run", () => {
  it("streams the answer to stdout and statistics to stderr", async () => {
    const { code, stdout, stderr } = await tramontane(["run", question]);
    expect(code).toBe(0);
    expect(stdout).toBe("The capital of France is Paris.\n");
    expect(stderr).toMatch(/^\[36 prompt tokens .*8 new tokens .*loaded in .* s\]\n$/);
  });

  it("gives with --json the prompt and the tokens of the reference", async () => {
    const { ids, tokens, completion } = greedy.find(({ name }) => name === "paris") ?? greedy[0];
    const answer = await json<Answer>(
      ["run", "-", "--json", "--activations", "i16"],
      `${question}\n`,
    );
    expect(answer).toMatchObject({
      text: completion,
      ids: tokens,
      prompt_ids: ids,
      finish_reason: "stop",
      prompt_tokens: ids.length,
      completion_tokens: tokens.length,
    });
    expect(Object.values(answer.timing).every((value) => value !== null && value > 0)).toBe(true);
  });

  it("honours --system, --max-tokens and --stop", async () => {
    const { messages, ids } = readJson<{ messages: { content: string }[]; ids: number[] }[]>(
      golden("smollm2/greedy.json"),
    ).find(({ messages }) => messages.length === 2) ?? { messages: [], ids: [] };
    const [system, user] = messages.map(({ content }) => content);
    const some = await json<Answer>([
      "run",
      user,
      "--json",
      "--system",
      system,
      "--max-tokens",
      "3",
    ]);
    expect([some.prompt_ids, some.ids.length, some.finish_reason]).toEqual([ids, 3, "length"]);
    const stopped = await json<Answer>([
      "run",
      question,
      "--json",
      "--stop",
      "is",
      "--stop",
      " of",
    ]);
    expect([stopped.text, stopped.finish_reason]).toEqual(["The capital", "stop"]);
  });

  it("ends with code 130 at Ctrl-C", async () => {
    const { child, finished } = start(["run", "--raw", "One, two, three, four,", "--stop", "zzz"]);
    child.stdin?.end();
    await once(child.stdout ?? child, "data");
    child.kill("SIGINT");
    expect(await finished).toMatchObject({ code: 130, stderr: "" });
  });
});

describe("chat", () => {
  it("keeps the conversation, takes commands, and ends with its input", async () => {
    const lines = [
      "/set max-tokens 8",
      "/set top-p 2",
      question,
      "And of Italy?",
      "/stats",
      "/reset",
      question,
      "/bye",
    ];
    const { code, stdout, stderr } = await tramontane(["chat"], `${lines.join("\n")}\n`);
    expect([code, stderr]).toEqual([0, ""]);
    const said = stdout.split("\n");
    expect(said[0]).toBe("max-tokens is 8");
    expect(said[1]).toContain("top-p: Expected a number from 0 to 1");
    expect(said[2]).toBe("The capital of France is Paris.");
    expect(said.find((line) => line.includes("prompt tokens"))).toContain("of them cached");
    expect(said.filter((line) => line === said[2])).toHaveLength(2);
    expect(said.at(-2)).toContain("unknown command /bye");
  });
});

describe("tokenize", () => {
  it("gives ids and pieces without loading weights, special tokens only when asked", async () => {
    const plain = await json(["tokenize", "Name the capital"]);
    expect(plain).toEqual({ ids: [5820, 260, 3575], pieces: ["Name", "Ġthe", "Ġcapital"] });
    const special = await json<{ ids: number[] }>(["tokenize", "-", "--special"], "<|im_end|>\n");
    expect(special.ids).toEqual([2, 198]);
    const text = await json<{ ids: number[] }>(["tokenize", "<|im_end|>"]);
    expect(text.ids).not.toContain(2);
  });
});

describe("inspect", () => {
  it("tells the derived config, formats, memory and kernels of a model without tokenizer", async () => {
    const found = await json<{
      config: Record<string, number>;
      formats: { format: string; tensors: number }[];
      memory: Record<string, number> & { cache: { bytes: number } };
      probe: { reasons: string[] };
      kernels: { kernel: string }[];
      programs: string[];
      notices: string[];
    }>([
      "inspect",
      golden("mistral-tiny/sliding-window"),
      "--json",
      "--sinks",
      "2",
      "--threads",
      "3",
    ]);
    expect(found.config).toMatchObject({
      sliding_window_size: 16,
      attention_sink_size: 2,
      context_window_size: -1,
      head_dim: 16,
    });
    expect(found.formats.map(({ format }) => format)).toEqual(["f32"]);
    const { weights, slots, arena, scratch, tables, cache, total, threads } = found.memory;
    expect(threads).toBe(3);
    expect(total - (weights + slots + arena + scratch + tables + cache.bytes)).toBeLessThan(4096);
    expect(found.probe.reasons.length).toBeGreaterThan(0);
    expect(found.kernels.map(({ kernel }) => kernel)).toContain("attend");
    expect(found.programs.length).toBeGreaterThan(5);
    expect(found.notices.join()).toContain("prefill_chunk_size");
  });

  it("prints the same for people", async () => {
    const { code, stdout } = await tramontane(["inspect"]);
    expect(code).toBe(0);
    for (const piece of ["q4_1", "4-bit integers", "num_key_value_heads", "MiB", "matvec"])
      expect(stdout).toContain(piece);
  });
});

describe("score", () => {
  const [first] = casesOf("mistral-tiny/gqa").filter(({ ids }) => ids.length === 33);
  const input = JSON.stringify(first.ids);

  it("gives logits of every position, the same bytes however they are computed", async () => {
    using folder = new TemporaryFolder();
    const ways = [[], ["--chunk", "1"], ["--chunk", "7"], ["--threads", "1"], ["--decode"]];
    const scores: Score[] = [];
    for (const [at, way] of ways.entries()) {
      const out = ["--logits", folder.file(`${at}.f32`)];
      scores.push(
        await json<Score>(["score", gqa, "--ids", "-", "--kv", "f32", ...out, ...way], input),
      );
    }
    const all = ways.map((_, at) => readFileSync(folder.file(`${at}.f32`)));
    for (const bytes of all) expect(bytes.equals(all[0])).toBe(true);
    for (const score of scores) expect(score).toEqual(scores[0]);
    expect(readdirSync(folder.path)).toHaveLength(ways.length);
    const reference = readF32(golden(`mistral-tiny/gqa/${first.logits}`));
    const { relative } = compare(reference, readF32(folder.file("0.f32")), first.shape[1]);
    expect(relative).toBeLessThan(2e-4);
    const { tokens, logprobs, mean_logprob, perplexity } = scores[0];
    expect([tokens, logprobs.length, logprobs[0]]).toEqual([33, 33, null]);
    const mean = logprobs.slice(1).reduce<number>((sum, value) => sum + Number(value), 0) / 32;
    expect(mean_logprob).toBeCloseTo(mean, 12);
    expect(perplexity).toBeCloseTo(Math.exp(-mean), 9);
  });

  it("runs on the interpreter, with a window, and on a text", async () => {
    const windowed = ["score", gqa, "--ids", "-", "--sliding-window", "8", "--sinks", "2"];
    const [wasm, interpreted] = [
      await json<Score>(windowed, input),
      await json<Score>([...windowed, "--device", "interpreter"], input),
    ];
    expect(interpreted.mean_logprob).toBeCloseTo(wasm.mean_logprob, 4);
    const text = "The capital of France is Paris.";
    const plain = await json<Score>(["score", "--text", "-"], text);
    const begun = await json<Score>(["score", "--text", "-", "--bos", "--kv", "f16"], text);
    expect([plain.tokens + 1, plain.perplexity < 100]).toEqual([begun.tokens, true]);
  });
});

describe("compile", () => {
  it("writes the same files from run to run", async () => {
    using folder = new TemporaryFolder();
    const [one, two] = [folder.file("one"), folder.file("two")];
    for (const dir of [one, two]) await tramontane(["compile", gqa, "--dump", dir]);
    const files = readdirSync(one).sort();
    expect(files).toEqual(readdirSync(two).sort());
    for (const file of files)
      expect(readFileSync(`${one}/${file}`).equals(readFileSync(`${two}/${file}`))).toBe(true);
    expect(files).toEqual(
      expect.arrayContaining([
        "00-trace.prefill.txt",
        "memory.txt",
        "module.wasm",
        "module.wat",
        "plan.json",
      ]),
    );
    await WebAssembly.compile(readFileSync(`${one}/module.wasm`));
  });
});

describe("bench", () => {
  it("measures a model without tokenizer: a table, then a line of JSON", async () => {
    const sizes = [
      "--pp",
      "16",
      "--tg",
      "4",
      "--depth",
      "0,40",
      "--threads",
      "1,2",
      "--repetitions",
      "1",
    ];
    const found = await json<{
      load_ms: number;
      compile_ms: number;
      bandwidth_gb_s: Record<string, number>;
      rows: Record<string, unknown>[];
    }>(["bench", gqa, ...sizes]);
    expect(found.load_ms).toBeGreaterThan(found.compile_ms);
    expect(Object.keys(found.bandwidth_gb_s)).toEqual(["1", "2"]);
    const kinds = found.rows.map(({ threads, kind, tokens, depth }) => [
      threads,
      kind,
      tokens,
      depth,
    ]);
    const ofThreads = (threads: number) =>
      [0, 40].flatMap((depth) => [
        [threads, "prefill", 16, depth],
        [threads, "decode", 4, depth],
      ]);
    expect(kinds).toEqual([...ofThreads(1), ...ofThreads(2)]);
    for (const { kind, tokens_per_s, percent_of_bandwidth } of found.rows) {
      expect(tokens_per_s).toBeGreaterThan(0);
      if (kind === "prefill") expect(percent_of_bandwidth).toBeNull();
      else expect(percent_of_bandwidth).toBeGreaterThan(0);
    }
  });
});
