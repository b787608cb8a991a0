import { InternalError, ResourceError } from "../../base/errors.ts";
import type { Graph } from "../../ir/graph.ts";
import type { CacheView } from "../../ir/op.ts";
import { dequantize, formatBytes } from "../../quant/formats.ts";
import type {
  CacheRows,
  CacheStorage,
  DeviceModel,
  RunRequest,
  RunResult,
  WeightSegment,
  WeightSource,
} from "../device.ts";
import { storedRow } from "../row-order.ts";
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
  readonly keys: readonly Float32Array[];
  readonly values: readonly Float32Array[];

  constructor(pages: number, shape: CacheShape) {
    this.pages = pages;
    const size = pages * shape.pageTokens * shape.kvHeads * shape.headDim;
    const layers = Array.from({ length: shape.layers });
    this.keys = layers.map(() => new Float32Array(size));
    this.values = layers.map(() => new Float32Array(size));
  }

  get bytes(): number {
    return 2 * this.keys.reduce((sum, layer) => sum + layer.byteLength, 0);
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

  async createCache(pages: number): Promise<CacheStorage> {
    try {
      return new PlainCache(pages, this.#cache);
    } catch (cause) {
      const message = `a cache of ${pages} pages does not fit in memory; lower the context (--context)`;
      throw new ResourceError("memory", message, { pages }, { cause });
    }
  }

  async run(request: RunRequest): Promise<RunResult> {
    const values = { ...request.inputs };
    if (request.cache) this.#copyPages(plain(request.cache.storage), request.cache.layout.copies);
    for (const name of request.functions) {
      const outputs = evaluate(this.#graph(name), {
        bindings: request.sizes,
        inputs: values,
        param: (param) => this.#param(param),
        cache: () => this.#view(request.cache),
      });
      Object.assign(values, outputs);
    }
    return Object.fromEntries(
      request.outputs.map((name) => [name, Float32Array.from(values[name])] as const),
    );
  }

  async copyPages(storage: CacheStorage, copies: Int32Array): Promise<void> {
    this.#copyPages(plain(storage), copies);
  }

  async readCache(storage: CacheStorage, layer: number, slots: Int32Array): Promise<CacheRows> {
    const { keys, values } = plain(storage);
    const width = this.#cache.kvHeads * this.#cache.headDim;
    const gather = (from: Float32Array): Float32Array => {
      const out = new Float32Array(slots.length * width);
      slots.forEach((slot, at) =>
        out.set(from.subarray(slot * width, (slot + 1) * width), at * width),
      );
      return out;
    };
    return { keys: gather(keys[layer]), values: gather(values[layer]) };
  }

  async dispose(): Promise<void> {}

  #graph(name: string): Graph {
    const graph = this.#graphs.get(name);
    if (graph === undefined) throw new InternalError("function", `no function named ${name}`);
    return graph;
  }

  #param(name: string): Float32Array {
    const value = this.#weights.get(name);
    if (value === undefined) throw new InternalError("weight", `no weight named ${name}`);
    return value;
  }

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

  #copyPages(cache: PlainCache, copies: Int32Array): void {
    const page = this.#cache.pageTokens * this.#cache.kvHeads * this.#cache.headDim;
    for (const layer of [...cache.keys, ...cache.values])
      for (let at = 0; at < copies.length; at += 2)
        layer.copyWithin(copies[at + 1] * page, copies[at] * page, (copies[at] + 1) * page);
  }
}

function plain(storage: CacheStorage): PlainCache {
  if (storage instanceof PlainCache) return storage;
  throw new InternalError("cache", "a cache of another device");
}

/** Widens a whole parameter to f32, rows in the order of the model. */
export async function widen(source: WeightSource): Promise<Float32Array> {
  const parts = await Promise.all(source.segments.map(widenSegment));
  const out = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

async function widenSegment(segment: WeightSegment): Promise<Float32Array> {
  const { rows, columns, format } = segment;
  const bytes = new Uint8Array(formatBytes(format, rows * columns));
  await segment.read(0, rows, bytes);
  const stored = new Float32Array(rows * columns);
  dequantize(format, bytes, stored);
  if (segment.rowOrder.kind === "plain") return stored;
  const out = new Float32Array(stored.length);
  for (let row = 0; row < rows; row++) {
    const from = storedRow(segment.rowOrder, row) * columns;
    out.set(stored.subarray(from, from + columns), row * columns);
  }
  return out;
}
