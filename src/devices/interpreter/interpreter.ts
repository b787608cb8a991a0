import { found, ResourceError } from "../../base/errors.ts";
import type { Graph } from "../../ir/graph.ts";
import type { CacheRows, CacheView } from "../../ir/graph.ts";
import type { CachePlan } from "../../plan/plan.ts";
import { formatBytes } from "../../quant/formats.ts";
import type { CacheStorage, DeviceModel, RunRequest, WeightSource } from "../device.ts";
import { widenRows } from "../row-order.ts";
import { evaluate } from "./evaluate.ts";

/** What is interpreted. */
interface Model {
  readonly graphs: readonly Graph[];
  /** The cache, as far as it is not in the graphs. */
  readonly cache: Pick<CachePlan, "layers" | "kvHeads" | "headDim" | "pageTokens">;
  readonly weights: ReadonlyMap<string, Float32Array>;
}

/** The device that is the definition of correct: whole models, slowly and obviously, on this thread. */
export class Interpreter implements DeviceModel {
  readonly threads = 1;
  readonly #model: Model;
  /** Of each layer all keys and values, [slots, kvHeads × headDim]. */
  readonly #caches = new WeakMap<CacheStorage, readonly CacheRows[]>();

  constructor(model: Model) {
    this.#model = model;
  }

  /** Values of one token in one layer. */
  get #width(): number {
    return this.#model.cache.kvHeads * this.#model.cache.headDim;
  }

  async createCache(pages: number): Promise<CacheStorage> {
    const { layers, pageTokens } = this.#model.cache;
    const width = this.#width;
    const size = pages * pageTokens * width;
    const plane = (): Float32Array => new Float32Array(size);
    try {
      const rows = Array.from({ length: layers }, () => ({ keys: plane(), values: plane() }));
      const read = async (slots: Int32Array): Promise<CacheRows[]> =>
        rows.map(({ keys, values }) => ({
          keys: gather(keys, slots, width),
          values: gather(values, slots, width),
        }));
      const storage = { pages, read, dispose: () => {} };
      this.#caches.set(storage, rows);
      return storage;
    } catch (cause) {
      const message = `a cache of ${pages} pages does not fit in memory; lower the context (--context)`;
      throw new ResourceError("memory", message, { pages }, { cause });
    }
  }

  async run({ functions, sizes, inputs, output, cache }: RunRequest): Promise<Float32Array> {
    const values = { ...inputs };
    const view = cache && this.#view(cache);
    const around = {
      sizes,
      input: (name: string) => values[name],
      param: (name: string) =>
        found(this.#model.weights.get(name), "weight", `no weight named ${name}`),
      cache: () => found(view, "cache", "the function needs a cache"),
    };
    for (const name of functions) {
      const graph = this.#model.graphs.find((candidate) => candidate.name === name);
      const known = found(graph, "function", `no function named ${name}`);
      Object.assign(values, evaluate(known, around));
    }
    return Float32Array.from(values[output]);
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  /** The cache as a step sees it, after its copies of pages. */
  #view({ storage, layout: step }: NonNullable<RunRequest["cache"]>): CacheView {
    const layers = found(this.#caches.get(storage), "cache", "a cache of another device");
    const { pageTokens } = this.#model.cache;
    const page = pageTokens * this.#width;
    const { copies } = step;
    for (const { keys, values } of layers)
      for (let at = 0; at < copies.length; at += 2)
        for (const plane of [keys, values])
          plane.copyWithin(copies[at + 1] * page, copies[at] * page, (copies[at] + 1) * page);
    return { pageTokens, step, layers };
  }
}

/** Rows of `width` values at some slots, one behind the other. */
const gather = (plane: Float32Array, slots: Int32Array, width: number): Float32Array =>
  Float32Array.from({ length: slots.length * width }, (_, at) => {
    return plane[slots[Math.floor(at / width)] * width + (at % width)];
  });

/** Widens a whole parameter to f32, rows in the order of the model. */
export async function widen({ segments }: WeightSource): Promise<Float32Array> {
  const size = segments.reduce((sum, { rows, columns }) => sum + rows * columns, 0);
  const out = new Float32Array(size);
  let at = 0;
  for (const segment of segments) {
    const { rows, columns, format } = segment;
    const bytes = new Uint8Array(formatBytes(format, rows * columns));
    await segment.read(0, rows, bytes);
    widenRows(segment, bytes, out.subarray(at), [0, rows]);
    at += rows * columns;
  }
  return out;
}
