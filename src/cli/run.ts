import { Option, type Command } from "commander";
import { InputError } from "../base/errors.ts";
import type { Delta, Engine, Usage } from "../index.ts";
import { modelAnd, openEngine, readText } from "./model.ts";
import { generateOptions, samplingOf, type GenerateFlags } from "./options.ts";
import { addCommand, type Shell } from "./shell.ts";

interface RunFlags extends GenerateFlags {
  readonly raw?: true;
  readonly json?: true;
}

export function addRun(program: Command, shell: Shell): void {
  addCommand(program, "run", generateOptions, {
    usage: "[options] [MODEL] PROMPT",
    about: "Answers a prompt: the text on stdout, statistics on stderr.",
    example: 'tramontane run "Name the capital of France."',
  })
    .argument(
      "[arguments...]",
      "MODEL, a folder or a file (else the bundled model), and PROMPT (- reads stdin)",
    )
    .addOption(
      new Option("--raw", "the prompt as it is, without the model's chat template").conflicts(
        "system",
      ),
    )
    .option("--json", "one JSON object instead of the text")
    .action(async (args: string[], flags: RunFlags) => {
      const [model, given] = modelAnd("PROMPT", args, "run");
      const prompt = given === "-" ? (await readText("-")).replace(/\r?\n$/, "") : given;
      if (prompt === "") throw new InputError("empty-prompt", "the prompt is empty");
      const opened = await openEngine(model, flags, shell);
      await using engine = opened.engine;
      await answer(
        deltasOf(engine, prompt, flags, shell.signal),
        opened.loadMs,
        flags.json ?? false,
      );
    });
}

function deltasOf(
  engine: Engine,
  prompt: string,
  flags: RunFlags,
  signal: AbortSignal,
): AsyncIterable<Delta> {
  const options = { ...samplingOf(flags), signal };
  if (flags.raw) return engine.generate(prompt, options);
  const system = flags.system === undefined ? [] : [{ role: "system", content: flags.system }];
  return engine.chat([...system, { role: "user", content: prompt }], options);
}

async function answer(deltas: AsyncIterable<Delta>, loadMs: number, json: boolean): Promise<void> {
  const [text, ids]: [string[], number[]] = [[], []];
  let promptIds: readonly number[] = [];
  for await (const delta of deltas)
    switch (delta.kind) {
      case "prompt":
        promptIds = delta.ids;
        break;
      case "text":
        if (!json) process.stdout.write(delta.text);
        text.push(delta.text);
        ids.push(...delta.ids);
        break;
      case "end": {
        const { usage, reason } = delta;
        if (json)
          process.stdout.write(
            `${JSON.stringify({
              text: text.join(""),
              ids,
              prompt_ids: promptIds,
              finish_reason: reason,
              prompt_tokens: usage.promptTokens,
              completion_tokens: usage.completionTokens,
              timing: timingOf(usage, loadMs),
            })}\n`,
          );
        else {
          process.stdout.write("\n");
          const seconds = (loadMs / 1000).toFixed(2);
          process.stderr.write(`[${showUsage(usage)}, loaded in ${seconds} s]\n`);
        }
        break;
      }
      default:
        delta satisfies never;
    }
}

/** Tokens a second of both phases; the first new token comes out of the prefill. Null where nothing was computed. */
function rates({ promptTokens, cachedTokens, completionTokens, prefillMs, decodeMs }: Usage): {
  prefill: number | null;
  decode: number | null;
} {
  const rate = (tokens: number, ms: number): number | null =>
    tokens > 0 && ms > 0 ? (1000 * tokens) / ms : null;
  return {
    prefill: rate(promptTokens - cachedTokens, prefillMs),
    decode: rate(completionTokens - 1, decodeMs),
  };
}

function timingOf(usage: Usage, loadMs: number): Record<string, number | null> {
  const { prefill, decode } = rates(usage);
  return {
    load_ms: loadMs,
    prefill_ms: usage.prefillMs,
    decode_ms: usage.decodeMs,
    prefill_tokens_per_s: prefill,
    decode_tokens_per_s: decode,
  };
}

/** `37 prompt tokens (310.2 tokens/s), 8 new tokens (45.1 tokens/s)`. */
export function showUsage(usage: Usage): string {
  const { prefill, decode } = rates(usage);
  const rate = (value: number | null): string =>
    value === null ? "" : ` (${value.toFixed(1)} tokens/s)`;
  const cached = usage.cachedTokens > 0 ? `, ${usage.cachedTokens} of them cached` : "";
  return `${usage.promptTokens} prompt tokens${cached}${rate(prefill)}, ${usage.completionTokens} new tokens${rate(decode)}`;
}
