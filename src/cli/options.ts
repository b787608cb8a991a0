import { InvalidArgumentError, Option } from "commander";
import { isWithin, showLimits, type Limits } from "../base/limits.ts";
import { limits as requestLimits, type GenerateOptions } from "../engine/request.ts";
import { choices, limits as loadLimits, type LoadOptions } from "../load-options.ts";

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

type LimitedName = keyof typeof loadLimits;
type LoadName = keyof typeof choices | LimitedName;
export type LoadFlags = Pick<LoadOptions, LoadName>;
const loading = (name: LimitedName, flags: string, text: string): Option =>
  new Option(flags, text).argParser(number(loadLimits[name]));
const choosing = (name: keyof typeof choices, flags: string, text: string): Option =>
  new Option(flags, text).choices(choices[name]);

/** Options of `load`, each under its field's name. */
export const loadOptions: Readonly<Record<LoadName, Option>> = {
  device: choosing("device", "--device <name>", "what computes (default: auto)"),
  threads: loading("threads", "--threads <n>", "worker threads (default: all of the machine)"),
  slidingWindow: loading("slidingWindow", "--sliding-window <w>", "tokens see the last w only"),
  sinks: loading("sinks", "--sinks <s>", "first tokens that a window keeps (default: 4)"),
  context: loading("context", "--context <n>", "most tokens (default: the model's, at most 8192)"),
  kv: choosing("kv", "--kv <type>", "how keys and values are kept (default: f16)"),
  activations: choosing(
    "activations",
    "--activations <type>",
    "inputs of quantised matmuls: i8 is fast, i16 exact (default: i8)",
  ),
  chunk: loading("chunk", "--chunk <n>", "most tokens of a step (default: 512)"),
};

/** Those that change what is compiled. */
export const planOptions: readonly Option[] = Object.values(loadOptions).filter(
  (option) => option !== loadOptions.device,
);

type SamplingName = keyof typeof requestLimits;
const sampling = (name: SamplingName, flags: string, text: string): Option =>
  new Option(flags, text).argParser(number(requestLimits[name]));

/** Options of a generation, each under its field's name. */
export const samplingOptions: Readonly<Record<SamplingName, Option>> = {
  maxTokens: sampling("maxTokens", "--max-tokens <n>", "most new tokens (default: what fits)"),
  temperature: sampling("temperature", "--temperature <t>", "0 takes the likeliest (default: 0)"),
  topK: sampling("topK", "--top-k <k>", "only the k likeliest tokens (default: 0, all)"),
  topP: sampling("topP", "--top-p <p>", "only the likeliest that make up p (default: 1)"),
  minP: sampling("minP", "--min-p <p>", "only those with p × the best's chance (default: 0)"),
  repetitionPenalty: sampling(
    "repetitionPenalty",
    "--repetition-penalty <x>",
    "above 1 makes repetition less likely (default: 1)",
  ),
  seed: sampling("seed", "--seed <n>", "the same seed draws the same text (default: 0)"),
};
const stop: Option = new Option(
  "--stop <text>",
  "ends the answer; may be given several times",
).argParser((text: string, before: readonly string[] | undefined) => {
  if (text === "") throw new InvalidArgumentError("Expected at least one character");
  return [...(before ?? []), text];
});

export interface GenerateFlags extends LoadFlags, Pick<GenerateOptions, SamplingName | "stop"> {
  readonly system?: string;
}
/** All that `run` and `chat` share. */
export const generateOptions: readonly Option[] = [
  new Option("--system <text>", "the system message"),
  ...Object.values(samplingOptions),
  stop,
  ...Object.values(loadOptions),
];
export const samplingOf = (flags: GenerateFlags): GenerateOptions =>
  pick(flags, { ...samplingOptions, stop });
export const loadingOf = (flags: LoadFlags): LoadOptions => pick(flags, loadOptions);

/** The flags that `options` name, as an object of these only. */
function pick<F extends object>(flags: F, options: Readonly<Record<string, Option>>): Partial<F> {
  const entries = Object.entries(flags).filter(([name]) => Object.hasOwn(options, name));
  return Object.fromEntries(entries) as Partial<F>;
}
