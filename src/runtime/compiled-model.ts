import { InputError } from "../base/errors.ts";
import type { DeviceModel } from "../devices/device.ts";
import type { DimBindings } from "../ir/dim.ts";
import type { NumericArray } from "../ir/op.ts";
import { pagesFor } from "../quant/kv-page.ts";
import { PagedCache } from "./paged-cache.ts";

/** Sizes of a compiled language model that callers must know. */
export interface ModelShape {
  readonly hidden: number;
  readonly vocab: number;
  readonly layers: number;
  readonly pageTokens: number;
  /** Most rows of one forward, and of the logits it gives. */
  readonly maxRows: number;
}

/** Tokens of one sequence that a forward appends. */
export interface Append {
  readonly id: number;
  readonly tokens: readonly number[];
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
  async create_paged_kv_cache(options: {
    readonly max_batch_size: number;
    readonly max_total_seq_len: number;
    readonly prefill_chunk_size?: number;
    readonly page_size?: number;
    readonly support_sliding_window?: boolean;
  }): Promise<PagedCache> {
    const { pageTokens, maxRows, layers } = this.shape;
    const { max_batch_size, max_total_seq_len } = options;
    if (options.page_size !== undefined && options.page_size !== pageTokens)
      throw new InputError(
        "page-size",
        `page_size: this model was compiled for pages of ${pageTokens} tokens, got ${options.page_size}`,
      );
    if (options.prefill_chunk_size !== undefined && options.prefill_chunk_size > maxRows)
      throw new InputError(
        "chunk",
        `prefill_chunk_size: this model was compiled for at most ${maxRows} rows, got ${options.prefill_chunk_size}`,
      );
    const pages = pagesFor(max_total_seq_len, max_batch_size, pageTokens);
    return new PagedCache(await this.device.createCache(pages), this.device, layers, {
      pages,
      pageTokens,
      maxBatch: max_batch_size,
      maxRows: options.prefill_chunk_size ?? maxRows,
      supportSlidingWindow: options.support_sliding_window ?? true,
    });
  }

  /** ids [seq_len] → [seq_len, hidden]. */
  async embed(ids: readonly number[]): Promise<Float32Array> {
    const sizes = { seq_len: ids.length };
    return await this.#call(["embed"], "embeddings", sizes, { ids: this.#ids(ids) });
  }

  /** [1, seq_len, hidden] → logits of the last token [1, 1, vocab]. */
  async prefill(embeddings: Float32Array, cache: PagedCache): Promise<Float32Array> {
    const sizes = { seq_len: this.#rows(embeddings) };
    return await this.#call(["prefill"], "logits", sizes, { embeddings }, cache);
  }

  /** [1, 1, hidden] → [1, 1, vocab]. */
  async decode(embeddings: Float32Array, cache: PagedCache): Promise<Float32Array> {
    return await this.#call(["decode"], "logits", {}, { embeddings }, cache);
  }

  /** [1, seq_len, hidden] of all sequences, rows whose logits are wanted → [1, positions, vocab]. */
  async batch_prefill(
    embeddings: Float32Array,
    logit_positions: readonly number[],
    cache: PagedCache,
  ): Promise<Float32Array> {
    const sizes = { seq_len: this.#rows(embeddings), batch_size: logit_positions.length };
    const inputs = { embeddings, logit_positions: this.#positions(logit_positions, sizes.seq_len) };
    return await this.#call(["batch_prefill"], "logits", sizes, inputs, cache);
  }

  /** [batch, 1, hidden] → [batch, 1, vocab]. */
  async batch_decode(embeddings: Float32Array, cache: PagedCache): Promise<Float32Array> {
    const sizes = { batch_size: this.#rows(embeddings) };
    return await this.#call(["batch_decode"], "logits", sizes, { embeddings }, cache);
  }

  /** [1, seq_len, hidden] → logits of every row [1, seq_len, vocab]. */
  async batch_verify(embeddings: Float32Array, cache: PagedCache): Promise<Float32Array> {
    const sizes = { seq_len: this.#rows(embeddings) };
    return await this.#call(["batch_verify"], "logits", sizes, { embeddings }, cache);
  }

  /** Appends tokens to sequences of a cache in one step; logits of the rows `positions` → [positions, vocab]. */
  async forward(
    cache: PagedCache,
    appends: readonly Append[],
    positions: "last" | "all",
  ): Promise<Float32Array> {
    const ids = this.#ids(appends.flatMap(({ tokens }) => tokens));
    const layout = cache.beginForward(
      appends.map(({ id }) => id),
      appends.map(({ tokens }) => tokens.length),
    );
    const logit_positions = positions === "last" ? layout.lastRows : ids.map((_, row) => row);
    const sizes = { seq_len: ids.length, batch_size: logit_positions.length };
    try {
      const inputs = { ids, logit_positions };
      const logits = await this.#call(["embed", "batch_prefill"], "logits", sizes, inputs, cache);
      cache.endForward();
      return logits;
    } catch (error) {
      cache.abandonForward();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.device.dispose();
  }

  async #call(
    functions: readonly string[],
    output: string,
    sizes: DimBindings,
    inputs: Readonly<Record<string, NumericArray>>,
    cache?: PagedCache,
  ): Promise<Float32Array> {
    const bound = cache ? { cache: { storage: cache.storage, layout: cache.layout } } : {};
    const rows = sizes.seq_len ?? sizes.batch_size ?? 1;
    if (cache && cache.layout.rows !== rows)
      throw new InputError(
        "rows",
        `${functions.join(", ")}: ${rows} rows were given, the cache's forward has ${cache.layout.rows}`,
      );
    const result = await this.device.run({ functions, sizes, inputs, outputs: [output], ...bound });
    return result[output];
  }

  #rows(embeddings: Float32Array): number {
    const rows = embeddings.length / this.shape.hidden;
    if (!Number.isInteger(rows) || rows < 1 || rows > this.shape.maxRows)
      throw new InputError(
        "embeddings",
        `embeddings: expected 1 to ${this.shape.maxRows} rows of ${this.shape.hidden} values, got ${embeddings.length} values`,
      );
    return rows;
  }

  #ids(ids: readonly number[]): Int32Array {
    const { vocab, maxRows } = this.shape;
    if (ids.length < 1 || ids.length > maxRows)
      throw new InputError(
        "ids",
        `ids: expected 1 to ${maxRows} tokens in one step, got ${ids.length}`,
      );
    const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocab);
    if (wrong !== undefined)
      throw new InputError(
        "ids",
        `ids: expected whole numbers from 0 to ${vocab - 1}, got ${wrong}`,
      );
    return Int32Array.from(ids);
  }

  #positions(positions: readonly number[], rows: number): Int32Array {
    const wrong = positions.find((row) => !Number.isInteger(row) || row < 0 || row >= rows);
    if (positions.length === 0 || positions.length > this.shape.maxRows || wrong !== undefined)
      throw new InputError(
        "logit-positions",
        `logit_positions: expected rows from 0 to ${rows - 1}, got ${wrong ?? `${positions.length} of them`}`,
      );
    return Int32Array.from(positions);
  }
}
