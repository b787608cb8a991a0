import { ResourceError } from "../../base/errors.ts";
import type { Graph } from "../../ir/graph.ts";
import type { CacheView } from "../../ir/op.ts";
import type { CachePlan } from "../../plan/plan.ts";
import { formatBytes } from "../../quant/formats.ts";
import { found, type CacheRows, type CacheStorage, type DeviceModel } from "../device.ts";
import type { RunRequest, RunResult, WeightSource } from "../device.ts";
import { widenRows } from "../row-order.ts";
import { evaluate } from "./evaluate.ts";

/** What the interpreter must know of the cache: everything else is in the graphs. */
type CacheShape = Pick<CachePlan, "layers" | "kvHeads" | "headDim" | "pageTokens">;

/** Keys and values of each layer, [slots, kvHeads × headDim]. */
interface Planes {
  readonly keys: readonly Float32Array[];
  readonly values: readonly Float32Array[];
}

/** The device that is the definition of correct: whole models, slowly and obviously, on this thread. */
export class Interpreter implements DeviceModel {
  readonly threads = 1;
  readonly #graphs: ReadonlyMap<string, Graph>;
  readonly #cache: CacheShape;
  readonly #weights: ReadonlyMap<string, Float32Array>;
  readonly #planes = new WeakMap<CacheStorage, Planes>();

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
    const size = pages * pageTokens * this.#width;
    const planes = (): Float32Array[] =>
      Array.from({ length: layers }, () => new Float32Array(size));
    const storage = { pages, bytes: 2 * layers * 4 * size, dispose: () => {} };
    try {
      this.#planes.set(storage, { keys: planes(), values: planes() });
      return storage;
    } catch (cause) {
      const message = `a cache of ${pages} pages does not fit in memory; lower the context (--context)`;
      throw new ResourceError("memory", message, { pages }, { cause });
    }
  }

  async run({ functions, sizes, inputs, outputs, cache }: RunRequest): Promise<RunResult> {
    const values = { ...inputs };
    if (cache) await this.copyPages(cache.storage, cache.layout.copies);
    for (const name of functions) {
      const given = evaluate(
        found(this.#graphs.get(name), "function", `no function named ${name}`),
        {
          bindings: sizes,
          inputs: values,
          param: (param) => found(this.#weights.get(param), "weight", `no weight named ${param}`),
          cache: () => this.#view(cache),
        },
      );
      Object.assign(values, given);
    }
    return Object.fromEntries(outputs.map((name) => [name, Float32Array.from(values[name])]));
  }

  async copyPages(storage: CacheStorage, copies: Int32Array): Promise<void> {
    const { keys, values } = this.#planesOf(storage);
    const page = this.#cache.pageTokens * this.#width;
    for (const layer of [...keys, ...values])
      for (let at = 0; at < copies.length; at += 2)
        layer.copyWithin(copies[at + 1] * page, copies[at] * page, (copies[at] + 1) * page);
  }

  async readCache(storage: CacheStorage, layer: number, slots: Int32Array): Promise<CacheRows> {
    const { keys, values } = this.#planesOf(storage);
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
    const { storage, layout } = found(cache, "cache", "the function needs a cache");
    const { keys, values } = this.#planesOf(storage);
    return {
      pageTokens: this.#cache.pageTokens,
      step: layout,
      keys: (layer) => keys[layer],
      values: (layer) => values[layer],
    };
  }

  #planesOf(storage: CacheStorage): Planes {
    return found(this.#planes.get(storage), "cache", "a cache of another device");
  }
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
    widenRows(segment, bytes, out.subarray(at), [0, rows]);
    at += rows * columns;
  }
  return out;
}
