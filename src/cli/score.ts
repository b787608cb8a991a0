import { open, rename, rm, stat } from "node:fs/promises";
import { Option, type Command } from "commander";
import { InputError, refusal } from "../base/errors.ts";
import type { Engine, LoadOptions } from "../index.ts";
import { fileError, openEngine, readText } from "./model.ts";
import { loadOptions } from "./options.ts";
import { printJson, sum, type Definition, type Shell } from "./shell.ts";

type Files = Partial<Record<"text" | "ids" | "logits", string>>;
type ScoreFlags = LoadOptions & Files & Partial<Record<"bos" | "decode", true>>;

export const command: Definition = {
  usage: "[MODEL] --text FILE | --ids FILE.json",
  about: "Prints the log-probability of each token of a text given those before it, as JSON.",
  example: "--text README.md",
  options: [
    ...Object.values(loadOptions),
    new Option("--text <file>", "the text (- reads stdin); special tokens in it are plain text"),
    new Option("--ids <file>", "a JSON array of token ids instead of a text (- reads stdin)"),
    new Option("--bos", "put the model's begin token in front"),
    new Option("--decode", "feed the tokens one a step, as when they are generated"),
    new Option("--logits <file>", "write all logits: f32 little-endian, [tokens, vocab]"),
  ],
  async run(model: string | undefined, flags: ScoreFlags, shell: Shell, command: Command) {
    const path = flags.ids ?? flags.text;
    if (path === undefined || (flags.ids !== undefined && flags.text !== undefined))
      return command.error("expected one of --text FILE and --ids FILE.json");
    const text = await readText(path);
    const given = flags.ids === undefined ? undefined : parseIds(text, path);
    const found = await withLogitsFile(flags.logits, async (write) => {
      await using engine = await openEngine(model, { ...flags, ...shell });
      const begin = flags.bos ? [bosOf(engine)] : [];
      const ids = [...begin, ...(given ?? engine.encode(text, { bos: false }))];
      const { vocab } = engine.model.shape;
      const logprobs: number[] = [];
      const options = { decode: flags.decode ?? false, signal: shell.signal };
      for await (const { first, rows } of engine.logits(ids, options)) {
        await write(rows);
        const next = ids.slice(first + 1, first + 1 + rows.length / vocab);
        for (const [row, id] of next.entries())
          logprobs.push(logprobOf(id, rows.subarray(row * vocab, (row + 1) * vocab)));
      }
      return { tokens: ids.length, ids, ...summary(logprobs) };
    });
    printJson(found);
  },
};

function parseIds(text: string, path: string): readonly number[] {
  const refuse = (got: string): never =>
    refusal("ids", path)(`expected a JSON array of token ids such as [1, 22, 333], got ${got}`);
  // JSON.parse takes 60 bytes of memory for each open bracket
  if (text.indexOf("[", text.indexOf("[") + 1) >= 0) return refuse("an array in an array");
  let ids: unknown;
  try {
    ids = JSON.parse(text);
  } catch {
    refuse("what is not JSON");
  }
  if (!Array.isArray(ids)) return refuse(text.trim().slice(0, 20));
  const wrong = ids.findIndex((id) => !Number.isInteger(id) || id < 0);
  return wrong < 0 ? ids : refuse(`${JSON.stringify(ids[wrong])} at index ${wrong}`);
}

function bosOf({ tokenizer }: Engine): number {
  if (tokenizer.bos !== undefined) return tokenizer.bos;
  throw new InputError("no-bos", "the tokenizer has no begin token; leave --bos out");
}

/** Log-probability of a token: its logit − log Σ exp, in f64, without overflow. Loops: `reduce` takes twice the time. */
function logprobOf(id: number, logits: Float32Array): number {
  let [largest, sum] = [-Infinity, 0];
  for (const logit of logits) if (logit > largest) largest = logit;
  for (const logit of logits) sum += Math.exp(logit - largest);
  return logits[id] - (largest + Math.log(sum));
}

/** The first token has none before it, and so no log-probability; of it alone there is no mean. */
function summary(known: readonly number[]): object {
  const mean = known.length === 0 ? null : sum(known) / known.length;
  const perplexity = mean === null ? null : Math.exp(-mean);
  return { logprobs: [null, ...known], mean_logprob: mean, perplexity };
}

type Write = (values: Float32Array) => Promise<void>;
/**
 * Gives `use` a function that appends f32 values, little-endian, to a file, which is there only when `use` has ended well: it
 * grows under another name beside its place. Without a path nothing is written. Errors: InputError where it cannot be created.
 */
async function withLogitsFile<T>(path: string | undefined, use: (write: Write) => Promise<T>) {
  if (path === undefined) return await use(async () => {});
  const partial = `${path}.${process.pid}.partial`;
  const problem = `--logits ${path}: cannot be written`;
  const known = await stat(path).catch(() => undefined);
  if (known?.isFile() === false) throw new InputError("unwritable", `${problem}: it is not a file`);
  const file = await open(partial, "wx").catch(fileError("unwritable", problem));
  try {
    // little-endian, as WebAssembly's memory, which the values are read from
    const write: Write = ({ buffer, byteOffset, byteLength }) =>
      file.writeFile(Buffer.from(buffer, byteOffset, byteLength));
    const result = await use(write).finally(() => file.close());
    await rename(partial, path);
    return result;
  } finally {
    await rm(partial, { force: true });
  }
}
