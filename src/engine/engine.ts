import { InputError, ResourceError, throwIfAborted } from "../base/errors.ts";
import type { CompiledModel } from "../runtime/compiled-model.ts";
import type { PagedCache } from "../runtime/paged-cache.ts";
import { ChatTemplate, type Message } from "../text/chat-template.ts";
import { createTokenizer, type Tokenizer } from "../text/tokenizer.ts";
import type { Checkpoint } from "../weights/checkpoint.ts";
import { checkRequest, type Delta, type GenerateOptions, type Request } from "./request.ts";
import { sample } from "./sampler.ts";
import { stopFinder } from "./stop.ts";

/** The id of the one sequence that the cache of an engine has. */
export const sequence = 0;

/** Answers requests, one after the other; each finds in the cache what it shares with the one before. */
export class Engine implements AsyncDisposable {
  readonly model: CompiledModel;
  readonly #cache: PagedCache;
  /** Gives the tokenizer, the chat template and the end tokens. */
  readonly #checkpoint: Checkpoint;
  /** Most tokens of a sequence; Infinity with a sliding window and no limit. */
  readonly context: number;
  #tokenizer: Tokenizer | undefined;
  #template: ChatTemplate | undefined;
  /** Tokens that the cache holds. */
  readonly #held: number[] = [];
  #queue: Promise<unknown> = Promise.resolve();

  constructor(model: CompiledModel, cache: PagedCache, checkpoint: Checkpoint, context: number) {
    this.model = model;
    this.#cache = cache;
    this.#checkpoint = checkpoint;
    this.context = context;
  }

  /** Made when it is first asked for. Errors: InputError where the checkpoint has none. */
  get tokenizer(): Tokenizer {
    return (this.#tokenizer ??= createTokenizer(this.#checkpoint.tokenizer));
  }

  get #chatTemplate(): ChatTemplate {
    const { chatTemplate: source, path } = this.#checkpoint;
    if (source === undefined)
      throw new InputError(
        "no-chat-template",
        `${path} has no chat template (tokenizer.chat_template in GGUF, chat_template.jinja or tokenizer_config.json beside safetensors); give a raw prompt`,
      );
    const { bos, eos, pieceOf } = this.tokenizer;
    const piece = (id: number | undefined): string => (id === undefined ? "" : pieceOf(id));
    return (this.#template ??= new ChatTemplate(source, { bos: piece(bos), eos: piece(eos[0]) }));
  }

  /**
   * Ids of a raw prompt, or of a conversation rendered by the chat template; `bos`: whether BOS goes in front, absent: where the
   * model wants one. Errors: InputError also for a text that no tokens of the context can hold.
   */
  encode(prompt: string | readonly Message[], options: { readonly bos?: boolean } = {}): number[] {
    const { bos, addsBos, longest, quote } = this.tokenizer;
    const raw = typeof prompt === "string";
    const said = raw ? [prompt] : prompt.map(({ content }) => String(content));
    const units = said.reduce((sum, { length }) => sum + length, 0);
    this.#checkFits(Math.ceil(units / longest), 0, "at least ");
    // Quoted, what a message says cannot pose as a special token of the template.
    const text = raw ? prompt : this.#chatTemplate.render(prompt, { quote });
    const ids = this.tokenizer.encode(text, { special: raw ? false : "unquoted" });
    return (options.bos ?? addsBos) && bos !== undefined && ids[0] !== bos ? [bos, ...ids] : ids;
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
    const { eos } = this.#checkpoint.specialIds; // else the tokenizer's word counts
    const request = checkRequest(options, eos.length > 0 ? eos : this.tokenizer.eos);
    this.#checkPrompt(ids, 1);
    yield { kind: "prompt", ids };
    using _ = await this.#turn();
    yield* this.#answer(ids, request);
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
    const step = options.decode ? 1 : this.model.shape.maxRows;
    for (let first = 0; first < ids.length; first += step) {
      const rows = await this.#append(ids.slice(first, first + step), "all", options.signal);
      yield { first, rows };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#queue;
    this.#cache[Symbol.dispose]();
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

  #checkPrompt({ length: tokens }: readonly number[], room: number): void {
    if (tokens === 0)
      throw new InputError("empty-prompt", "the prompt is empty: expected at least one token");
    this.#checkFits(tokens, room);
  }

  /** `room`: tokens that must still fit behind the prompt. */
  #checkFits(tokens: number, room: number, about = ""): void {
    const { context } = this;
    if (tokens + room <= context) return;
    const problem = `the prompt has ${about}${tokens} tokens, which ${room > 0 ? `with ${room} to come ` : ""}do not fit the context of ${context}`;
    const advice =
      "shorten it, raise the context (--context) or use a sliding window (--sliding-window)";
    throw new InputError("prompt-too-long", `${problem}; ${advice}`, { tokens, context });
  }

  /** Feeds what the cache lacks of the prompt, then draws token after token until an end. */
  async *#answer(prompt: readonly number[], request: Request): AsyncIterable<Delta> {
    const decoder = this.tokenizer.decoder();
    const findStop = stopFinder(request.stop);
    const occurred = new Set(prompt);
    const room = Math.min(request.maxTokens, this.context - prompt.length);
    const start = performance.now();
    const cachedTokens = this.#reuse(prompt);
    const { maxRows } = this.model.shape;
    let logits: Float32Array = new Float32Array();
    for (let first = cachedTokens; first < prompt.length; first += maxRows)
      logits = await this.#append(prompt.slice(first, first + maxRows), "last", request.signal);
    const prefilled = performance.now();
    const pending: number[] = [];
    for (let tokens = 1; ; tokens++) {
      const id = sample(logits, request, prompt.length + tokens - 1, occurred);
      occurred.add(id);
      pending.push(id);
      const ended = request.stopTokens.includes(id);
      const last = ended || tokens >= room;
      const piece = ended ? "" : decoder.push(id);
      const { text, stopped } = findStop(last ? piece + decoder.end() : piece, last);
      const over = last || stopped;
      if (text !== "" || over) yield { kind: "text", text, ids: pending.splice(0) };
      if (over) {
        const reason = ended || stopped ? "stop" : "length";
        const times = { prefillMs: prefilled - start, decodeMs: performance.now() - prefilled };
        const counts = { promptTokens: prompt.length, cachedTokens, completionTokens: tokens };
        yield { kind: "end", reason, usage: { ...counts, ...times } };
        return;
      }
      logits = await this.#append([id], "last", request.signal);
    }
  }

  /** Keeps of the cache what the prompt begins with, but for its last token, whose logits are needed. */
  #reuse(ids: readonly number[]): number {
    const most = Math.min(this.#held.length, ids.length - 1);
    let shared = 0;
    while (shared < most && this.#held[shared] === ids[shared]) shared++;
    try {
      this.#cache.truncate(sequence, shared);
    } catch (error) {
      if (!(error instanceof ResourceError)) throw error;
      shared = 0; // a window has passed what the next token sees
      this.#cache.truncate(sequence, 0);
    }
    this.#held.length = shared;
    return shared;
  }

  async #append(tokens: readonly number[], positions: "last" | "all", signal?: AbortSignal) {
    throwIfAborted(signal);
    const rows = await this.model.forward(this.#cache, [{ id: sequence, tokens }], positions);
    this.#held.push(...tokens);
    return rows;
  }
}
