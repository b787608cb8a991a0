import { InputError, ResourceError, throwIfAborted } from "../base/errors.ts";
import type { CompiledModel } from "../runtime/compiled-model.ts";
import type { PagedCache } from "../runtime/paged-cache.ts";
import type { ChatTemplate, Message } from "../text/chat-template.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { checkRequest } from "./request.ts";
import type { Delta, FinishReason, GenerateOptions, Request } from "./request.ts";
import { sample } from "./sampler.ts";
import { StopTexts } from "./stop.ts";

/** What an engine runs with; text parts are made when they are first asked for, and throw where the checkpoint lacks them. */
export interface EngineParts {
  readonly model: CompiledModel;
  readonly cache: PagedCache;
  /** Most tokens of a sequence; Infinity with a sliding window and no limit. */
  readonly context: number;
  readonly window: { readonly size: number; readonly sinks: number } | undefined;
  /** Ids that end an answer: the checkpoint's own word, else the tokenizer's. */
  eos(): readonly number[];
  tokenizer(): Tokenizer;
  chatTemplate(): ChatTemplate;
}

/** The id of the one sequence that the engine keeps in the cache. */
const sequence = 0;

/** Answers requests, one after the other; each finds in the cache what it shares with the one before. */
export class Engine implements AsyncDisposable {
  readonly model: CompiledModel;
  readonly context: number;
  readonly #parts: EngineParts;
  /** Tokens that the cache holds. */
  readonly #held: number[] = [];
  #queue: Promise<unknown> = Promise.resolve();

  constructor(parts: EngineParts) {
    this.#parts = parts;
    this.model = parts.model;
    this.context = parts.context;
    parts.cache.add(sequence);
    const { window } = parts;
    if (window) parts.cache.enableSlidingWindow(sequence, window.size, window.sinks);
  }

  get tokenizer(): Tokenizer {
    return this.#parts.tokenizer();
  }

  /** Ids of a raw prompt (BOS in front where the model wants one), or of a conversation rendered by the chat template. */
  encode(prompt: string | readonly Message[]): number[] {
    const { tokenizer } = this;
    const raw = typeof prompt === "string";
    const { quote } = tokenizer; // what a message says cannot pose as a special token of the template
    const text = raw ? prompt : this.#parts.chatTemplate().render(prompt, { quote });
    const ids = tokenizer.encode(text, { special: raw ? false : "unquoted" });
    const { bos, addsBos } = tokenizer;
    return addsBos && bos !== undefined && ids[0] !== bos ? [bos, ...ids] : ids;
  }

  /** Answers a conversation. Errors as `generate`. */
  chat(messages: readonly Message[], options: GenerateOptions = {}): AsyncIterable<Delta> {
    return this.generate(this.encode(messages), options);
  }

  /**
   * Continues a prompt. Errors: InputError for a bad option or a prompt that is empty or longer than the context, AbortError
   * when the signal fires, ResourceError when the cache is full.
   */
  async *generate(
    prompt: string | readonly number[],
    options: GenerateOptions = {},
  ): AsyncIterable<Delta> {
    const ids = typeof prompt === "string" ? this.encode(prompt) : prompt;
    const request = checkRequest(options, this.#parts.eos());
    this.#checkPrompt(ids, 1);
    yield { kind: "prompt", ids };
    using _ = await this.#turn();
    const start = performance.now();
    const cachedTokens = this.#reuse(ids);
    let logits: Float32Array = new Float32Array();
    for (let first = cachedTokens; first < ids.length; first += this.#parts.model.shape.maxRows) {
      throwIfAborted(request.signal);
      logits = await this.#append(
        ids.slice(first, first + this.#parts.model.shape.maxRows),
        "last",
      );
    }
    const prefilled = performance.now();
    const { reason, tokens } = yield* this.#answer(ids, logits, request);
    const times = { prefillMs: prefilled - start, decodeMs: performance.now() - prefilled };
    const counts = { promptTokens: ids.length, cachedTokens, completionTokens: tokens };
    yield { kind: "end", reason, usage: { ...counts, ...times } };
  }

  /**
   * Logits of every position of a text, part by part: rows [first, first + rows.length / vocab). `decode` feeds the tokens one
   * a step. Errors as `generate`.
   */
  async *logits(
    ids: readonly number[],
    options: { readonly decode?: boolean; readonly signal?: AbortSignal } = {},
  ): AsyncIterable<{ readonly first: number; readonly rows: Float32Array }> {
    this.#checkPrompt(ids, 0);
    using _ = await this.#turn();
    this.#reuse([]);
    const step = options.decode ? 1 : this.#parts.model.shape.maxRows;
    for (let first = 0; first < ids.length; first += step) {
      throwIfAborted(options.signal);
      yield { first, rows: await this.#append(ids.slice(first, first + step), "all") };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#queue;
    this.#parts.cache[Symbol.dispose]();
    await this.model[Symbol.asyncDispose]();
  }

  /** Waits for the requests before; the next waits until it is disposed of. */
  async #turn(): Promise<Disposable> {
    const before = this.#queue;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#queue = before.then(() => promise);
    await before;
    return { [Symbol.dispose]: resolve };
  }

  /** `room`: tokens that must still fit behind the prompt. */
  #checkPrompt({ length: tokens }: readonly number[], room: number): void {
    const { context } = this;
    if (tokens === 0)
      throw new InputError("empty-prompt", "the prompt is empty: expected at least one token");
    if (tokens + room <= context) return;
    const problem = `the prompt has ${tokens} tokens, which ${room > 0 ? `with ${room} to come ` : ""}do not fit the context of ${context}`;
    const advice =
      "shorten it, raise the context (--context) or use a sliding window (--sliding-window)";
    throw new InputError("prompt-too-long", `${problem}; ${advice}`, { tokens, context });
  }

  /** Draws token after token until an end. */
  async *#answer(
    prompt: readonly number[],
    first: Float32Array,
    request: Request,
  ): AsyncGenerator<Delta, { readonly reason: FinishReason; readonly tokens: number }> {
    const decoder = this.#parts.tokenizer().decoder();
    const stops = new StopTexts(request.stop);
    const occurred = new Set(prompt);
    const room = Math.min(request.maxTokens, this.context - prompt.length);
    let logits = first;
    let pending: number[] = [];
    for (let tokens = 1; ; tokens++) {
      const id = sample(logits, request, prompt.length + tokens - 1, occurred);
      occurred.add(id);
      pending.push(id);
      const ended = request.stopTokens.has(id);
      const text = ended ? "" : decoder.push(id);
      const last = ended || tokens >= room;
      const found = last ? stops.end(text + decoder.end()) : stops.push(text);
      if (found.text !== "" || last || found.stopped) {
        yield { kind: "text", text: found.text, ids: pending };
        pending = [];
      }
      if (last || found.stopped)
        return { reason: ended || found.stopped ? "stop" : "length", tokens };
      throwIfAborted(request.signal);
      logits = await this.#append([id], "last");
    }
  }

  /** Keeps of the cache what the prompt begins with, but for its last token, whose logits are needed. */
  #reuse(ids: readonly number[]): number {
    const most = Math.min(this.#held.length, ids.length - 1);
    let shared = 0;
    while (shared < most && this.#held[shared] === ids[shared]) shared++;
    try {
      this.#parts.cache.truncate(sequence, shared);
    } catch (error) {
      if (!(error instanceof ResourceError)) throw error;
      shared = 0; // a window has passed what the next token sees
      this.#parts.cache.truncate(sequence, 0);
    }
    this.#held.length = shared;
    return shared;
  }

  async #append(tokens: readonly number[], positions: "last" | "all"): Promise<Float32Array> {
    const { cache } = this.#parts;
    const logits = await this.model.forward(cache, [{ id: sequence, tokens }], positions);
    this.#held.push(...tokens);
    return logits;
  }
}
