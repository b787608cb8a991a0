import { found, InternalError, messageOf, ResourceError } from "../base/errors.ts";
import { sizeOf, type DimBindings } from "../ir/dim.ts";
import type { CacheRows, CacheView, Concrete, Evaluation } from "../ir/graph.ts";
import type { Graph, Node, NumericArray } from "../ir/graph.ts";
import { copyPages } from "../ir/step-layout.ts";
import type { CachePlan } from "../plan/plan.ts";
import { dequantize, formatBytes } from "../quant/formats.ts";
import { storedRow } from "./device.ts";
import type { CacheStorage, DeviceModel, RunRequest, WeightSource } from "./device.ts";

/** What a graph is evaluated with. */
export interface Surroundings extends Pick<Evaluation, "input" | "param" | "cache"> {
  readonly sizes: DimBindings;
}

/** Evaluates every node of a graph by its plain meaning: the definition of correct. Returns the outputs by name. */
export function evaluate(graph: Graph, around: Surroundings): Record<string, NumericArray> {
  const values = new Map<Node, Concrete>();
  for (const node of graph.nodes) {
    if (node.type.dtype === "cache") continue;
    const shape = node.shape.map((dim) => sizeOf(dim, around.sizes));
    const inputs = node.inputs.flatMap((input) => values.get(input) ?? []);
    try {
      const data = node.op.evaluate({ ...around, inputs, attrs: node.attrs, shape });
      values.set(node, { data, shape });
    } catch (cause) {
      throw new InternalError("evaluate", `${node.op.name}: ${messageOf(cause)}`, {}, { cause });
    }
  }
  const dataOf = (node: Node): NumericArray =>
    found(values.get(node), "evaluate", `${node.op.name} has no value`).data;
  return Object.fromEntries(graph.outputs.map(({ name, node }) => [name, dataOf(node)]));
}

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

  async createCache(pages: number): Promise<CacheStorage> {
    const { layers, pageTokens, kvHeads, headDim } = this.#model.cache;
    const width = kvHeads * headDim;
    const plane = (): Float32Array => new Float32Array(pages * pageTokens * width);
    try {
      const rows = Array.from({ length: layers }, () => ({ keys: plane(), values: plane() }));
      const read = async (slots: Int32Array): Promise<CacheRows[]> => {
        const gather = (plane: Float32Array): Float32Array =>
          Float32Array.from({ length: slots.length * width }, (_, at) => {
            return plane[slots[Math.floor(at / width)] * width + (at % width)];
          });
        return rows.map(({ keys, values }) => ({ keys: gather(keys), values: gather(values) }));
      };
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
    const { pageTokens, kvHeads, headDim } = this.#model.cache;
    const page = pageTokens * kvHeads * headDim;
    for (const { keys, values } of layers)
      for (const plane of [keys, values]) copyPages(plane, page, step.copies);
    return { pageTokens, step, layers };
  }
}

/** Widens a whole parameter to f32, rows in the order of the model. */
export async function widen({ segments }: WeightSource): Promise<Float32Array> {
  const size = segments.reduce((sum, { rows, columns }) => sum + rows * columns, 0);
  const out = new Float32Array(size);
  let at = 0;
  for (const segment of segments) {
    const { rows, columns, format, rowOrder } = segment;
    const rowBytes = formatBytes(format, columns);
    const bytes = new Uint8Array(rows * rowBytes);
    await segment.read(0, rows, bytes);
    for (let row = 0; row < rows; row++, at += columns) {
      const from = storedRow(rowOrder, row) * rowBytes;
      dequantize(format, bytes.subarray(from, from + rowBytes), out.subarray(at, at + columns));
    }
  }
  return out;
}
