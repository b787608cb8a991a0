import { InputError } from "../base/errors.ts";
import { checkNumber, type Limits } from "../base/limits.ts";

/** How the next token is chosen. Temperature 0 takes the most likely one and draws nothing. */
export interface Sampling {
  readonly temperature: number;
  /** Only the k most likely tokens; 0: all. */
  readonly topK: number;
  /** Only the most likely tokens that together have probability p; 1: all. */
  readonly topP: number;
  /** Only tokens at least so likely as `minP` × the most likely; 0: all. */
  readonly minP: number;
  /** Logits of tokens that occurred are divided (if positive) or multiplied by it; 1: off. Keskar et al. 2019, arXiv 1909.05858. */
  readonly repetitionPenalty: number;
  /** Draws depend on the seed and the position alone. */
  readonly seed: number;
}

export interface GenerateOptions extends Partial<Sampling> {
  /** Most new tokens; as many as the context holds where absent. */
  readonly maxTokens?: number;
  /** Texts that end the answer; they are not part of it. */
  readonly stop?: readonly string[];
  /** Ids that end the answer, besides those of the checkpoint. */
  readonly stopTokens?: readonly number[];
  readonly signal?: AbortSignal;
}

/** What a generation gives, in order: prompt, then text with the tokens that made it certain, then the end. */
export type Delta =
  | { readonly kind: "prompt"; readonly ids: readonly number[] }
  | { readonly kind: "text"; readonly text: string; readonly ids: readonly number[] }
  | { readonly kind: "end"; readonly reason: FinishReason; readonly usage: Usage };

/** `stop`: an end token or a stop text; `length`: maxTokens or the context are used up. */
export type FinishReason = "stop" | "length";

export interface Usage {
  readonly promptTokens: number;
  /** Tokens of the prompt that were in the cache already. */
  readonly cachedTokens: number;
  readonly completionTokens: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
}

/** A checked request: nothing absent, nothing out of range. */
export type Request = Required<GenerateOptions>;

type NumberName = keyof Sampling | "maxTokens";
export const limits: Readonly<Record<NumberName, Limits & { readonly fallback: number }>> = {
  temperature: { least: 0, most: 100, fallback: 0 },
  topK: { least: 0, most: 2 ** 31, whole: true, fallback: 0 },
  topP: { least: 0, most: 1, fallback: 1 },
  minP: { least: 0, most: 1, fallback: 0 },
  repetitionPenalty: { least: 0.01, most: 100, fallback: 1 },
  seed: { least: 0, most: Number.MAX_SAFE_INTEGER, whole: true, fallback: 0 },
  maxTokens: { least: 1, most: 2 ** 31, whole: true, fallback: 2 ** 31 },
};

/** Checks the options of a generation. Errors: InputError with the option's name. */
export function checkRequest(options: GenerateOptions, eos: readonly number[]): Request {
  const numbers = {} as Record<NumberName, number>;
  for (const name of Object.keys(limits) as NumberName[])
    numbers[name] = checkNumber(name, options[name] ?? limits[name].fallback, limits[name]);
  const { stop = [], stopTokens = [], signal = new AbortController().signal } = options;
  if (stop.some((text) => typeof text !== "string" || text === ""))
    throw new InputError("option", "stop: expected texts of at least one character");
  return { ...numbers, stop, stopTokens: [...eos, ...stopTokens], signal };
}
