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
export interface Request extends Sampling {
  readonly maxTokens: number;
  readonly stop: readonly string[];
  readonly stopTokens: ReadonlySet<number>;
  readonly signal: AbortSignal | undefined;
}

export const limits: Readonly<Record<keyof Sampling | "maxTokens", Limits>> = {
  temperature: { least: 0, most: 100 },
  topK: { least: 0, most: 2 ** 31, whole: true },
  topP: { least: 0, most: 1 },
  minP: { least: 0, most: 1 },
  repetitionPenalty: { least: 0.01, most: 100 },
  seed: { least: 0, most: Number.MAX_SAFE_INTEGER, whole: true },
  maxTokens: { least: 1, most: 2 ** 31, whole: true },
};

/** Checks the options of a generation. Errors: InputError with the option's name. */
export function checkRequest(options: GenerateOptions, eos: readonly number[]): Request {
  const number = (name: keyof typeof limits, fallback: number): number =>
    checkNumber(name, options[name] ?? fallback, limits[name]);
  const stop = options.stop ?? [];
  if (stop.some((text) => typeof text !== "string" || text === ""))
    throw new InputError("option", "stop: expected texts of at least one character");
  return {
    temperature: number("temperature", 0),
    topK: number("topK", 0),
    topP: number("topP", 1),
    minP: number("minP", 0),
    repetitionPenalty: number("repetitionPenalty", 1),
    seed: number("seed", 0),
    maxTokens: number("maxTokens", 2 ** 31),
    stop,
    stopTokens: new Set([...eos, ...(options.stopTokens ?? [])]),
    signal: options.signal,
  };
}
