import type { Command } from "commander";
import { InputError } from "../base/errors.ts";
import type { Engine } from "../index.ts";
import { LogitsFile } from "./logits-file.ts";
import { openEngine, readText } from "./model.ts";
import { loadOptions, type LoadFlags } from "./options.ts";
import { addCommand, UsageError, type Shell } from "./shell.ts";

interface ScoreFlags extends LoadFlags {
  readonly text?: string;
  readonly ids?: string;
  readonly bos?: true;
  readonly decode?: true;
  readonly logits?: string;
}

export function addScore(program: Command, shell: Shell): void {
  addCommand(program, "score", Object.values(loadOptions), {
    usage: "[options] [MODEL] --text FILE | --ids FILE.json",
    about: "Prints the log-probability of each token of a text given those before it, as JSON.",
    example: "tramontane score --text README.md",
  })
    .argument("[model]", "a folder or a file; the bundled model where absent")
    .option("--text <file>", "the text (- reads stdin); special tokens in it are plain text")
    .option("--ids <file>", "a JSON array of token ids instead of a text (- reads stdin)")
    .option("--bos", "put the model's begin token in front")
    .option("--decode", "feed the tokens one a step, as when they are generated")
    .option("--logits <file>", "write all logits: f32 little-endian, [tokens, vocab]")
    .action(async (model: string | undefined, flags: ScoreFlags) => {
      const tokensOf = await tokensFrom(flags);
      await using out =
        flags.logits === undefined ? undefined : await LogitsFile.create(flags.logits);
      const { engine: opened } = await openEngine(model, flags, shell);
      await using engine = opened;
      const ids = [...(flags.bos ? [bosOf(engine)] : []), ...tokensOf(engine)];
      const logprobs = await score(engine, ids, flags, shell.signal, out);
      await out?.finish();
      process.stdout.write(
        `${JSON.stringify({ tokens: ids.length, ids, ...summary(logprobs) })}\n`,
      );
    });
}

/** Reads what is to be scored before anything is loaded; a text needs the engine's tokenizer. */
async function tokensFrom({
  text,
  ids,
}: ScoreFlags): Promise<(engine: Engine) => readonly number[]> {
  if ((text === undefined) === (ids === undefined))
    throw new UsageError(
      "expected one of --text FILE and --ids FILE.json; see tramontane score --help",
    );
  if (ids !== undefined) {
    const read = parseIds(await readText(ids), ids);
    return () => read;
  }
  const read = await readText(text ?? "");
  return ({ tokenizer }) => tokenizer.encode(read, { special: false });
}

function parseIds(text: string, path: string): readonly number[] {
  const expected = (got: string): InputError =>
    new InputError(
      "ids",
      `${path}: expected a JSON array of token ids such as [1, 22, 333], got ${got}`,
    );
  let ids: unknown;
  try {
    ids = JSON.parse(text);
  } catch {
    throw expected("what is not JSON");
  }
  if (!Array.isArray(ids)) throw expected(text.trim().slice(0, 20));
  const wrong = ids.findIndex((id) => !Number.isInteger(id) || id < 0);
  if (wrong >= 0) throw expected(`${JSON.stringify(ids[wrong])} at index ${wrong}`);
  return ids as number[];
}

function bosOf({ tokenizer }: Engine): number {
  if (tokenizer.bos !== undefined) return tokenizer.bos;
  throw new InputError("no-bos", "the tokenizer has no begin token; leave --bos out");
}

/** Log-probabilities of the tokens; that of the first, which nothing precedes, is null. */
async function score(
  engine: Engine,
  ids: readonly number[],
  flags: ScoreFlags,
  signal: AbortSignal,
  out: LogitsFile | undefined,
): Promise<(number | null)[]> {
  const { vocab } = engine.model.shape;
  const decode = flags.decode ?? false;
  const logprobs: (number | null)[] = [null];
  for await (const { first, rows } of engine.logits(ids, { decode, signal })) {
    await out?.write(rows);
    for (let row = 0; row < rows.length / vocab; row++) {
      const next = ids[first + row + 1];
      if (next === undefined) continue;
      const logits = rows.subarray(row * vocab, (row + 1) * vocab);
      logprobs.push(logits[next] - logSumExp(logits));
    }
  }
  return logprobs;
}

/** log Σ exp, in f64, without overflow. */
export function logSumExp(logits: Float32Array): number {
  let largest = -Infinity;
  for (const logit of logits) if (logit > largest) largest = logit;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - largest);
  return largest + Math.log(sum);
}

/** Null where no token has one before it. */
function summary(logprobs: readonly (number | null)[]): Record<string, unknown> {
  const known = logprobs.filter((logprob) => logprob !== null);
  const mean = known.reduce((sum, logprob) => sum + logprob, 0) / known.length;
  return known.length === 0
    ? { logprobs, mean_logprob: null, perplexity: null }
    : { logprobs, mean_logprob: mean, perplexity: Math.exp(-mean) };
}
