import { InternalError, ResourceError } from "../../base/errors.ts";
import type { Graph } from "../../ir/graph.ts";
import type { CacheView } from "../../ir/op.ts";
import { formatBytes } from "../../quant/formats.ts";
import type {
  CacheRows,
  CacheStorage,
  DeviceModel,
  RunRequest,
  RunResult,
  WeightSource,
} from "../device.ts";
import { widenRows } from "../row-order.ts";
import { evaluate } from "./evaluate.ts";

/** What the interpreter must know of the cache: everything else is in the graphs. */
export interface CacheShape {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly pageTokens: number;
}

class PlainCache implements CacheStorage {
  readonly pages: number;
  readonly bytes: number;
  readonly keys: readonly Float32Array[];
  readonly values: readonly Float32Array[];

  /** `size` values of keys in each layer, and as many of values. */
  constructor(pages: number, layers: number, size: number) {
    const planes = (): Float32Array[] =>
      Array.from({ length: layers }, () => new Float32Array(size));
    this.pages = pages;
    this.bytes = 2 * layers * 4 * size;
    this.keys = planes();
    this.values = planes();
  }

  dispose(): void {}
}

/** The device that is the definition of correct: whole models, slowly and obviously, on this thread. */
export class Interpreter implements DeviceModel {
  readonly threads = 1;
  readonly #graphs: ReadonlyMap<string, Graph>;
  readonly #cache: CacheShape;
  readonly #weights: ReadonlyMap<string, Float32Array>;

  constructor(
    graphs: ReadonlyMap<string, Graph>,
    cache: CacheShape,
    weights: ReadonlyMap<string, Float32Array>,
  ) {
    this.#graphs = graphs;
    this.#cache = cache;
    this.#weights = weights;
  }

  /** Values of one token in one layer. */
  get #width(): number {
    return this.#cache.kvHeads * this.#cache.headDim;
  }

  async createCache(pages: number): Promise<CacheStorage> {
    const { layers, pageTokens } = this.#cache;
    try {
      return new PlainCache(pages, layers, pages * pageTokens * this.#width);
    } catch (cause) {
      const message = `a cache of ${pages} pages does not fit in memory; lower the context (--context)`;
      throw new ResourceError("memory", message, { pages }, { cause });
    }
  }

  async run({ functions, sizes, inputs, outputs, cache }: RunRequest): Promise<RunResult> {
    const values = { ...inputs };
    if (cache) await this.copyPages(cache.storage, cache.layout.copies);
    for (const name of functions) {
      const given = evaluate(found("function", name, this.#graphs.get(name)), {
        bindings: sizes,
        inputs: values,
        param: (param) => found("weight", param, this.#weights.get(param)),
        cache: () => this.#view(cache),
      });
      Object.assign(values, given);
    }
    return Object.fromEntries(outputs.map((name) => [name, Float32Array.from(values[name])]));
  }

  async copyPages(storage: CacheStorage, copies: Int32Array): Promise<void> {
    const { keys, values } = plain(storage);
    const page = this.#cache.pageTokens * this.#width;
    for (const layer of [...keys, ...values])
      for (let at = 0; at < copies.length; at += 2)
        layer.copyWithin(copies[at + 1] * page, copies[at] * page, (copies[at] + 1) * page);
  }

  async readCache(storage: CacheStorage, layer: number, slots: Int32Array): Promise<CacheRows> {
    const { keys, values } = plain(storage);
    const width = this.#width;
    const gather = (from: Float32Array): Float32Array => {
      const out = new Float32Array(slots.length * width);
      slots.forEach((slot, row) =>
        out.set(from.subarray(slot * width, (slot + 1) * width), row * width),
      );
      return out;
    };
    return { keys: gather(keys[layer]), values: gather(values[layer]) };
  }

  async dispose(): Promise<void> {}

  #view(cache: RunRequest["cache"]): CacheView {
    if (cache === undefined) throw new InternalError("cache", "the function needs a cache");
    const { keys, values } = plain(cache.storage);
    return {
      pageTokens: this.#cache.pageTokens,
      step: cache.layout,
      keys: (layer) => keys[layer],
      values: (layer) => values[layer],
    };
  }
}

function found<T>(what: "function" | "weight", name: string, value: T | undefined): T {
  if (value === undefined) throw new InternalError(what, `no ${what} named ${name}`);
  return value;
}

function plain(storage: CacheStorage): PlainCache {
  if (storage instanceof PlainCache) return storage;
  throw new InternalError("cache", "a cache of another device");
}

/** Widens a whole parameter to f32, rows in the order of the model. */
export async function widen({ segments }: WeightSource): Promise<Float32Array> {
  const out = new Float32Array(
    segments.reduce((sum, { rows, columns }) => sum + rows * columns, 0),
  );
  let at = 0;
  for (const segment of segments) {
    const { rows, columns, format } = segment;
    const bytes = new Uint8Array(formatBytes(format, rows * columns));
    await segment.read(0, rows, bytes);
    widenRows({ ...segment, bytes }, out.subarray(at), 0, rows);
    at += rows * columns;
  }
  return out;
}
