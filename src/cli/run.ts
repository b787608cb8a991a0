import { Option, type Command } from "commander";
import { InputError } from "../base/errors.ts";
import type { Engine, Usage } from "../index.ts";
import { openEngine, readText, textAndModel } from "./model.ts";
import { generateOptions, type GenerateFlags } from "./options.ts";
import { printJson, type Definition, type Shell } from "./shell.ts";

type RunFlags = GenerateFlags & { readonly raw?: true; readonly json?: true };

const raw = new Option("--raw", "the prompt as it is, without the model's chat template");

export const command: Definition = {
  usage: "[MODEL] PROMPT",
  about: "Answers a prompt: the text on stdout, statistics on stderr.",
  example: '"Name the capital of France."',
  arguments: "MODEL, a folder or a file (else the bundled model), and PROMPT (- reads stdin)",
  options: [
    ...generateOptions,
    raw.conflicts("system"),
    new Option("--json", "one JSON object instead of the text"),
  ],
  async run(args: readonly string[], flags: RunFlags, shell: Shell, command: Command) {
    const [text, model] = textAndModel(args, command);
    const prompt = text === "-" ? (await readText("-")).replace(/\r?\n$/, "") : text;
    if (prompt === "") throw new InputError("empty-prompt", "the prompt is empty");
    const start = performance.now();
    await using engine = await openEngine(model, { ...flags, ...shell });
    const loadMs = performance.now() - start;
    await answer(engine, prompt, { ...flags, signal: shell.signal }, loadMs);
  },
};

async function answer(engine: Engine, prompt: string, flags: RunFlags, loadMs: number) {
  const { system = [], raw, json } = flags;
  const ids = engine.encode(raw ? prompt : [...system, { role: "user", content: prompt }]);
  const said = { text: "", ids: [] as number[] };
  for await (const delta of engine.generate(ids, flags))
    if (delta.kind === "text") {
      if (!json) process.stdout.write(delta.text);
      said.text += delta.text;
      said.ids.push(...delta.ids);
    } else if (delta.kind === "end") {
      const { reason, usage } = delta;
      if (json) printJson({ ...said, prompt_ids: ids, ...resultOf(reason, usage, loadMs) });
      else {
        process.stdout.write("\n");
        process.stderr.write(`[${showUsage(usage)}, loaded in ${(loadMs / 1000).toFixed(2)} s]\n`);
      }
    }
}

const resultOf = (finish_reason: string, usage: Usage, load_ms: number): object => ({
  finish_reason,
  prompt_tokens: usage.promptTokens,
  completion_tokens: usage.completionTokens,
  timing: { load_ms, prefill_ms: usage.prefillMs, decode_ms: usage.decodeMs, ...rates(usage) },
});

/** Tokens a second of both phases; the first new token comes out of the prefill. Null where nothing was computed. */
function rates({ promptTokens, cachedTokens, completionTokens, prefillMs, decodeMs }: Usage) {
  const rate = (tokens: number, ms: number): number | null =>
    tokens > 0 && ms > 0 ? (1000 * tokens) / ms : null;
  return {
    prefill_tokens_per_s: rate(promptTokens - cachedTokens, prefillMs),
    decode_tokens_per_s: rate(completionTokens - 1, decodeMs),
  };
}

/** `37 prompt tokens (310.2 tokens/s), 8 new tokens (45.1 tokens/s)`. */
export function showUsage(usage: Usage): string {
  const { prefill_tokens_per_s, decode_tokens_per_s } = rates(usage);
  const rate = (value: number | null): string =>
    value === null ? "" : ` (${value.toFixed(1)} tokens/s)`;
  const cached = usage.cachedTokens > 0 ? `, ${usage.cachedTokens} of them cached` : "";
  return `${usage.promptTokens} prompt tokens${cached}${rate(prefill_tokens_per_s)}, ${usage.completionTokens} new tokens${rate(decode_tokens_per_s)}`;
}
