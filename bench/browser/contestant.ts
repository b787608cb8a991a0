/** What an engine must do in the page to be measured. */
export interface Settings {
  /** Of the model, on the page's server. */
  readonly url: string;
  readonly threads: number;
  readonly context: number;
}

/** Tokens a second. */
export interface Rates {
  readonly prefill: number;
  readonly decode: number;
}

/** A text, as wllama takes no ids, and how many tokens it is, BOS included. */
export interface Prompt {
  readonly text: string;
  readonly tokens: number;
}

export interface Contestant {
  /** Prefills an empty sequence with the prompt's tokens, then chooses `steps` tokens greedily, one after the other. */
  run(prompt: Prompt, steps: number): Promise<Rates>;
}
/** The ways to run an engine, by name; the best counts. */
export type Open = (settings: Settings) => Promise<Readonly<Record<string, Contestant>>>;

/** Tokens a second, of some that take milliseconds. */
export const perSecond = (tokens: number, ms: number): number => (1000 * tokens) / ms;
