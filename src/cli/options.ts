import { InvalidArgumentError, Option } from "commander";
import { isWithin, showLimits, type Limits } from "../base/limits.ts";
import { limits as request } from "../engine/request.ts";
import type { GenerateOptions, LoadOptions, Message } from "../index.ts";
import { choices, limits as load } from "../load-options.ts";

export type GenerateFlags = LoadOptions & GenerateOptions & { system?: readonly Message[] };

/** Reads a number within limits; what is wrong is an error of the command line. */
export const number =
  (within: Limits) =>
  (text: string): number => {
    const value = text.trim() === "" ? NaN : Number(text);
    if (isWithin(value, within)) return value;
    throw new InvalidArgumentError(`Expected ${showLimits(within)}`);
  };

/** Reads `1,2,4`. */
export function numbers(within: Limits): (text: string) => number[] {
  return (text) => text.split(",").map(number(within));
}

type Read<T> = (text: string, before: T | undefined) => T;
const known = { ...choices, ...load, ...request };
/** An option that takes what `read` makes of its text, else what the field of its name takes: a number, or one of some words. */
export function option<T>(flags: string, text: string, read?: Read<T>): Option {
  const made = new Option(flags, text);
  if (read !== undefined) return made.argParser(read);
  const takes = known[made.attributeName() as keyof typeof known];
  return "most" in takes ? made.argParser(number(takes)) : made.choices(takes);
}

type Options<Name extends string> = Readonly<Record<Name, Option>>;
/** Options of `load`, each under its field's name. */
export const loadOptions: Options<keyof typeof choices | keyof typeof load> = {
  device: option("--device <name>", "what computes (default: auto)"),
  threads: option("--threads <n>", "worker threads (default: all of the machine)"),
  slidingWindow: option("--sliding-window <w>", "tokens see the last w only"),
  sinks: option("--sinks <s>", "first tokens that a window keeps (default: 4)"),
  context: option("--context <n>", "most tokens (default: the model's, at most 8192)"),
  kv: option("--kv <type>", "how keys and values are kept (default: f16; f32 with i16)"),
  activations: option(
    "--activations <type>",
    "inputs of quantised matmuls: i8 is fast, i16 exact (default: i8)",
  ),
  revectorize: option(
    "--revectorize <when>",
    "V8's 256-bit vectors: auto where a trial favours them, or off (default: auto)",
  ),
  chunk: option("--chunk <n>", "most tokens of a step (default: 512)"),
};

const { device: _, ...compiled } = loadOptions;
/** Those that change what is compiled. */
export const planOptions: readonly Option[] = Object.values(compiled);

/** Options of a generation that are numbers, each under its field's name. */
export const samplingOptions: Options<keyof typeof request> = {
  maxTokens: option("--max-tokens <n>", "most new tokens (default: what fits)"),
  temperature: option("--temperature <t>", "0 takes the likeliest (default: 0)"),
  topK: option("--top-k <k>", "only the k likeliest tokens (default: 0, all)"),
  topP: option("--top-p <p>", "only the likeliest that make up p (default: 1)"),
  minP: option("--min-p <p>", "only those with p × the best's chance (default: 0)"),
  repetitionPenalty: option(
    "--repetition-penalty <x>",
    "above 1 makes repetition less likely (default: 1)",
  ),
  seed: option("--seed <n>", "the same seed draws the same text (default: 0)"),
};

const addText = (text: string, before: readonly string[] = []): readonly string[] => {
  if (text === "") throw new InvalidArgumentError("Expected at least one character");
  return [...before, text];
};
/** All that `run` and `chat` share. */
export const generateOptions: readonly Option[] = [
  option("--system <text>", "the system message", (content) => [{ role: "system", content }]),
  ...Object.values(samplingOptions),
  option("--stop <text>", "ends the answer; may be given several times", addText),
  ...Object.values(loadOptions),
];
