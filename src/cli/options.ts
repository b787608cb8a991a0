import { InvalidArgumentError, Option } from "commander";
import { isWithin, showLimits, type Limits } from "../base/limits.ts";
import { limits as requestLimits, type GenerateOptions } from "../engine/request.ts";
import { choices, limits as loadLimits, type LoadOptions } from "../load-options.ts";

export interface GenerateFlags extends LoadOptions, GenerateOptions {
  readonly system?: string;
}

/** Reads a number within limits; what is wrong is an error of the command line. */
export const number =
  (limits: Limits) =>
  (text: string): number => {
    const value = text.trim() === "" ? NaN : Number(text);
    if (isWithin(value, limits)) return value;
    throw new InvalidArgumentError(`Expected ${showLimits(limits)}`);
  };

/** Reads `1,2,4`. */
export const numbers =
  (limits: Limits) =>
  (text: string): number[] =>
    text.split(",").map(number(limits));

type Table<Name extends string> = Readonly<Record<Name, Option>>;
/** Options, each under its field's name, with the numbers and words that the field takes. */
function table<Name extends string>(
  texts: Readonly<Record<Name, readonly [flags: string, text: string]>>,
  known: Readonly<Record<Name, Limits | readonly string[]>>,
): Table<Name> {
  const entries = Object.entries<readonly [string, string]>(texts).map(([name, [flags, text]]) => {
    const option = new Option(flags, text);
    const takes = known[name as Name];
    return [name, "most" in takes ? option.argParser(number(takes)) : option.choices(takes)];
  });
  return Object.fromEntries(entries) as Table<Name>;
}

type LoadName = keyof typeof choices | keyof typeof loadLimits;
/** Options of `load`. */
export const loadOptions: Table<LoadName> = table(
  {
    device: ["--device <name>", "what computes (default: auto)"],
    threads: ["--threads <n>", "worker threads (default: all of the machine)"],
    slidingWindow: ["--sliding-window <w>", "tokens see the last w only"],
    sinks: ["--sinks <s>", "first tokens that a window keeps (default: 4)"],
    context: ["--context <n>", "most tokens (default: the model's, at most 8192)"],
    kv: ["--kv <type>", "how keys and values are kept (default: f32)"],
    activations: [
      "--activations <type>",
      "inputs of quantised matmuls: i8 is fast, i16 exact (default: i8)",
    ],
    chunk: ["--chunk <n>", "most tokens of a step (default: 512)"],
  },
  { ...choices, ...loadLimits },
);

/** Those that change what is compiled. */
export const planOptions: readonly Option[] = Object.values(loadOptions).filter(
  (option) => option !== loadOptions.device,
);

/** Options of a generation that are numbers. */
export const samplingOptions: Table<keyof typeof requestLimits> = table(
  {
    maxTokens: ["--max-tokens <n>", "most new tokens (default: what fits)"],
    temperature: ["--temperature <t>", "0 takes the likeliest (default: 0)"],
    topK: ["--top-k <k>", "only the k likeliest tokens (default: 0, all)"],
    topP: ["--top-p <p>", "only the likeliest that make up p (default: 1)"],
    minP: ["--min-p <p>", "only those with p × the best's chance (default: 0)"],
    repetitionPenalty: [
      "--repetition-penalty <x>",
      "above 1 makes repetition less likely (default: 1)",
    ],
    seed: ["--seed <n>", "the same seed draws the same text (default: 0)"],
  },
  requestLimits,
);

/** All that `run` and `chat` share. */
export const generateOptions: readonly Option[] = [
  new Option("--system <text>", "the system message"),
  ...Object.values<Option>(samplingOptions),
  new Option("--stop <text>", "ends the answer; may be given several times").argParser(
    (text: string, before: readonly string[] = []) => {
      if (text === "") throw new InvalidArgumentError("Expected at least one character");
      return [...before, text];
    },
  ),
  ...Object.values<Option>(loadOptions),
];
