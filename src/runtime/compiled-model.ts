import { InputError } from "../base/errors.ts";
import type { DeviceModel, RunRequest } from "../devices/device.ts";
import { pagesFor } from "../quant/kv-page.ts";
import { PagedCache } from "./paged-cache.ts";
import { checkWhole } from "./window.ts";

type Inputs = RunRequest["inputs"];

/** Sizes of a compiled language model that callers must know; `maxRows`: most rows of one forward, and of the logits it gives. */
export type ModelShape = Readonly<
  Record<"hidden" | "vocab" | "layers" | "pageTokens" | "maxRows", number>
>;

/** Tokens of one sequence that a forward appends. */
export interface Append {
  readonly id: number;
  readonly tokens: readonly number[];
}

/** What a cache is made for; sizes that are absent are those that the model was compiled for. */
export interface CacheSizes {
  readonly max_batch_size: number;
  readonly max_total_seq_len: number;
  readonly prefill_chunk_size?: number;
  readonly page_size?: number;
  readonly support_sliding_window?: boolean;
}

/**
 * A language model on a device: the exported functions of DESIGN §2, callable one by one. All arrays are row-major f32. A
 * function that takes a cache runs between `cache.beginForward` and `cache.endForward`; `forward` does all of it.
 */
export class CompiledModel implements AsyncDisposable {
  readonly shape: ModelShape;
  readonly device: DeviceModel;

  constructor(device: DeviceModel, shape: ModelShape) {
    this.device = device;
    this.shape = shape;
  }

  /** A cache for `max_batch_size` sequences of `max_total_seq_len` tokens in all, in pages of `page_size`. */
  async create_paged_kv_cache(options: CacheSizes): Promise<PagedCache> {
    const { pageTokens, maxRows: mostRows } = this.shape;
    const { max_batch_size: maxBatch, max_total_seq_len, page_size = pageTokens } = options;
    const { prefill_chunk_size: maxRows = mostRows } = options;
    const { support_sliding_window: supportSlidingWindow = true } = options;
    const refuse = (option: string, problem: string): InputError =>
      new InputError("option", `${option}: this model was compiled for ${problem}`);
    if (page_size !== pageTokens)
      throw refuse("page_size", `pages of ${pageTokens} tokens, got ${page_size}`);
    if (maxRows > mostRows)
      throw refuse("prefill_chunk_size", `at most ${mostRows} rows, got ${maxRows}`);
    const pages = pagesFor(max_total_seq_len, maxBatch, pageTokens);
    const sizes = { pageTokens, maxBatch, maxRows, supportSlidingWindow };
    return new PagedCache(await this.device.createCache(pages), sizes);
  }

  /** ids [seq_len] → [seq_len, hidden]. */
  async embed(ids: readonly number[]): Promise<Float32Array> {
    const inputs = { ids: this.#whole("ids", ids, this.shape.vocab) };
    return await this.#run(["embed"], ids.length, inputs);
  }

  /** [1, seq_len, hidden] → logits of the last token [1, 1, vocab]. */
  async prefill(embeddings: Float32Array, cache: PagedCache): Promise<Float32Array> {
    return await this.#run(["prefill"], this.#rows(embeddings), { embeddings }, cache);
  }

  /** [1, 1, hidden] → [1, 1, vocab]. */
  async decode(embeddings: Float32Array, cache: PagedCache): Promise<Float32Array> {
    return await this.#run(["decode"], this.#rows(embeddings, 1), { embeddings }, cache);
  }

  /** [1, seq_len, hidden] of all sequences, rows whose logits are wanted → [1, positions, vocab]. */
  async batch_prefill(
    embeddings: Float32Array,
    logit_positions: readonly number[],
    cache: PagedCache,
  ): Promise<Float32Array> {
    const rows = this.#rows(embeddings);
    const positions = this.#whole("logit_positions", logit_positions, rows);
    const inputs = { embeddings, logit_positions: positions };
    return await this.#run(["batch_prefill"], rows, inputs, cache);
  }

  /** [batch, 1, hidden] → [batch, 1, vocab]. */
  async batch_decode(embeddings: Float32Array, cache: PagedCache): Promise<Float32Array> {
    return await this.#run(["batch_decode"], this.#rows(embeddings), { embeddings }, cache);
  }

  /** [1, seq_len, hidden] → logits of every row [1, seq_len, vocab]. */
  async batch_verify(embeddings: Float32Array, cache: PagedCache): Promise<Float32Array> {
    return await this.#run(["batch_verify"], this.#rows(embeddings), { embeddings }, cache);
  }

  /** Appends tokens to sequences of a cache in one step; logits of the rows `positions` → [positions, vocab]. */
  async forward(
    cache: PagedCache,
    appends: readonly Append[],
    positions: "last" | "all",
  ): Promise<Float32Array> {
    const tokens = appends.flatMap(({ tokens }) => tokens);
    const ids = this.#whole("ids", tokens, this.shape.vocab);
    const lengths = appends.map(({ tokens }) => tokens.length);
    const sequences = appends.map(({ id }) => id);
    const { lastRows } = cache.beginForward(sequences, lengths);
    const logit_positions = positions === "last" ? lastRows : ids.map((_, row) => row);
    const inputs = { ids, logit_positions };
    try {
      const logits = await this.#run(["embed", "batch_prefill"], ids.length, inputs, cache);
      cache.endForward();
      return logits;
    } catch (error) {
      cache.abandonForward();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.device[Symbol.asyncDispose]();
  }

  /** Runs functions one after the other on some rows; with a cache to their logits, without to embeddings. */
  async #run(functions: readonly string[], rows: number, inputs: Inputs, cache?: PagedCache) {
    const sizes = { seq_len: rows, batch_size: inputs.logit_positions?.length ?? rows };
    const given = `${functions.join(", ")}: ${rows} rows were given`;
    if (cache && cache.layout.rows !== rows)
      throw new InputError("rows", `${given}, the cache's forward has ${cache.layout.rows}`);
    const output = cache ? "logits" : "embeddings";
    return await this.device.run({ functions, sizes, inputs, output, ...(cache && { cache }) });
  }

  #rows({ length }: Float32Array, most = this.shape.maxRows): number {
    const { hidden } = this.shape;
    if (length % hidden === 0 && length > 0 && length <= most * hidden) return length / hidden;
    const expected = `1 to ${most} rows of ${hidden} values`;
    throw new InputError("embeddings", `embeddings: expected ${expected}, got ${length} values`);
  }

  /** Whole numbers from 0 to `end` − 1, as many as a step may have rows. */
  #whole(name: string, values: readonly number[], end: number): Int32Array {
    checkWhole(`number of ${name}`, values.length, 1, this.shape.maxRows);
    for (const value of values) checkWhole(name, value, 0, end - 1);
    return Int32Array.from(values);
  }
}
