import { found, ResourceError, UnsupportedError } from "../../base/errors.ts";
import { f16Table } from "../../base/half.ts";
import type { CacheRows, NumericArray } from "../../ir/graph.ts";
import { copyPages, type StepLayout } from "../../ir/step-layout.ts";
import { ropeAngles, type Angles } from "../../ops/rope.ts";
import { tableNames, type CachePlan, type Plan } from "../../plan/plan.ts";
import type { PlannedFunction, TableName } from "../../plan/plan.ts";
import { kvGroup, pagePlace, pageTokens } from "../../quant/kv-page.ts";
import type { CacheStorage, DeviceModel, RunRequest, StepTime } from "../device.ts";
import { Heap, mapMemory, mostBytes, planCache } from "./memory-map.ts";
import { countOf, type RunCommand } from "./runner.ts";
import { Team } from "./team.ts";
import { compileOptimised } from "./v8.ts";
import { loadWeights, type Loading } from "./weights.ts";

export interface WasmOptions extends Loading {
  readonly threads: number;
  /** Tokens of cache that must fit beside the weights. */
  readonly cacheTokens: number;
  readonly revectorize: boolean;
}

/** A model compiled to WebAssembly, on worker threads over one shared memory. */
export class WasmModel implements DeviceModel {
  readonly threads: number;
  onSteps: DeviceModel["onSteps"];
  readonly #plan: Plan;
  readonly #heap: Heap;
  readonly #team: Team;
  readonly #angles: Angles;
  readonly #caches = new WeakMap<CacheStorage, Pick<RunCommand, "pages" | "layerBytes">>();

  private constructor(plan: Plan, { threads, cacheTokens, revectorize }: WasmOptions) {
    const map = mapMemory(plan, threads);
    checkMemory(plan, map.end, cacheTokens);
    const module = compileOptimised(plan.module, revectorize);
    this.threads = threads;
    this.#plan = plan;
    this.#heap = new Heap(map, plan.weightBytes);
    const { functions, weights, cache } = plan;
    this.#angles = ropeAngles(cache?.ropeBase ?? 1, cache?.headDim ?? 0);
    const { memories } = this.#heap;
    this.#team = new Team({ module, memories, map, threads, plan: { functions, weights, cache } });
  }

  /** Compiles the plan's module, starts the workers and loads the weights. */
  static async create(plan: Plan, options: WasmOptions): Promise<WasmModel> {
    if (globalThis.SharedArrayBuffer === undefined)
      throw new UnsupportedError("not-isolated", notIsolated);
    const model = new WasmModel(plan, options);
    const loading = loadWeights(plan.weights, model.#heap, model.#team, options);
    await loading.catch(() => model[Symbol.asyncDispose]());
    await loading;
    return model;
  }

  async createCache(pages: number): Promise<CacheStorage> {
    const { layers, pageBytes } = this.#cachePlan;
    const layerBytes = pages * pageBytes;
    const at = this.#heap.take(layers * layerBytes, `a cache of ${pages} pages`);
    const read = async (slots: Int32Array): Promise<CacheRows[]> =>
      Array.from({ length: layers }, (_, layer) => this.#read(at + layer * layerBytes, slots));
    const storage = { pages, read, dispose: () => this.#heap.release(at) };
    this.#caches.set(storage, { pages: at, layerBytes });
    return storage;
  }

  get #cachePlan(): CachePlan {
    return found(this.#plan.cache, "cache", "the model uses no cache");
  }

  async run({ functions, sizes, inputs, output, cache }: RunRequest): Promise<Float32Array> {
    const planned = functions.map((name) => {
      const fn = this.#plan.functions.find((candidate) => candidate.name === name);
      return found(fn, "function", `no function named ${name}`);
    });
    for (const [name, values] of Object.entries(inputs)) this.#heap.write(this.#slot(name), values);
    const step = cache ? this.#writeStep(cache) : noStep;
    const isTimed = this.onSteps !== undefined;
    try {
      await this.#team.do({ kind: "run", functions, sizes, ...step, isTimed });
      this.onSteps?.(this.#times(planned));
    } finally {
      this.#heap.release(step.pageTable);
    }
    const given = planned.flatMap((fn) => fn.outputs).findLast(({ name }) => name === output);
    const { elements, width } = found(given, "output", `no function gives ${output}`);
    const count = countOf(elements, sizes) * width;
    return new Float32Array(this.#heap.memory.buffer, this.#slot(output), count).slice();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#team[Symbol.asyncDispose]();
  }

  /** What the threads have noted of the steps of a run. */
  #times(functions: readonly PlannedFunction[]): StepTime[] {
    const steps = functions.flatMap((fn) => fn.steps);
    return this.#team.times.flatMap((notes, thread) =>
      steps.map((step, at) => {
        const [arrived, began, ended] = notes.subarray(3 * at, 3 * at + 3);
        return { thread, step, arrived, began, ended };
      }),
    );
  }

  #slot(name: string): number {
    return found(this.#heap.map.slots[name], "slot", `no input or output named ${name}`);
  }

  /** Writes the tables of a step, copies pages and says where everything is; the page table's place is to be released. */
  #writeStep({ storage, layout }: NonNullable<RunRequest["cache"]>): typeof noStep {
    const pages = found(this.#caches.get(storage), "cache", "a cache of another device");
    const { layers, pageBytes } = this.#cachePlan;
    const tables = stepTables(layout, this.#angles);
    const pageTable = this.#heap.take(layout.pageTable.byteLength, "step tables");
    const places = { ...this.#heap.map.tables, pageTable };
    for (const name of tableNames) this.#heap.write(places[name], tables[name]);
    const copied = layout.copies.length > 0 ? layers : 0;
    for (let layer = 0; layer < copied; layer++) {
      const at = pages.pages + layer * pages.layerBytes;
      copyPages(this.#heap.bytes(at, pages.layerBytes), pageBytes, layout.copies);
    }
    return { ...pages, pageTable };
  }

  /** Keys and values of some slots of a layer, out of pages as quant/kv-page.ts lays them out, as f32. */
  #read(layerAt: number, slots: Int32Array): CacheRows {
    const plan = this.#cachePlan;
    const { kvHeads, headDim } = plan;
    const place = pagePlace(plan);
    const view = new DataView(this.#heap.memory.buffer);
    const read = {
      f32: (at: number) => view.getFloat32(at, true),
      f16: (at: number) => f16Table[view.getUint16(at, true)],
      q8: (at: number, scale: number) => view.getInt8(at) * view.getFloat32(scale, true),
    }[plan.kv];
    const keys = new Float32Array(slots.length * kvHeads * headDim);
    const values = new Float32Array(keys.length);
    for (let to = 0; to < keys.length; to++) {
      const slot = slots[Math.floor(to / headDim / kvHeads)];
      const page = layerAt + Math.floor(slot / pageTokens) * place.pageBytes;
      const head = page + (Math.floor(to / headDim) % kvHeads) * place.headBytes;
      const [token, d] = [slot % pageTokens, to % headDim];
      const group = Math.floor(d / kvGroup);
      const key = head + (d * pageTokens + token) * place.element;
      keys[to] = read(key, head + place.keyScales + 4 * (group * pageTokens + token));
      const value = head + place.values + (token * headDim + d) * place.element;
      values[to] = read(value, head + place.valueScales + 4 * (token * place.groups + group));
    }
    return { keys, values };
  }
}

/** What a run is told that uses no cache. */
const noStep = { pages: 0, layerBytes: 0, pageTable: 0 };

/** The tables of a step: its layout (ir/step-layout.ts) and the angles of its positions. */
export function stepTables(layout: StepLayout, angles: Angles): Record<TableName, NumericArray> {
  const windowAngles = angles(layout.positions);
  const hasSinks = layout.sinkEnds.some((end) => end > 0);
  const sinkAngles = hasSinks ? angles(layout.sinkPositions) : windowAngles;
  return { ...layout, windowAngles, sinkAngles };
}

const notIsolated =
  "threads need shared memory, which a page has only if it is cross-origin isolated: serve it with the headers Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp";

/** Refuses what cannot fit before anything is loaded. */
function checkMemory(plan: Plan, modelBytes: number, cacheTokens: number): void {
  const { bytes: cacheBytes } = planCache(plan, cacheTokens);
  if (modelBytes + cacheBytes <= mostBytes) return;
  const [weightBytes] = plan.weightBytes;
  const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  const message = `the model does not fit the ${gib(mostBytes)} of a WebAssembly memory: weights ${gib(weightBytes)}, activations ${gib(modelBytes - weightBytes)}, cache of ${cacheTokens} tokens ${gib(cacheBytes)}; lower the context or the chunk, or choose a smaller cache (kv f16 or q8) or model`;
  throw new ResourceError("wasm-memory", message, { weightBytes, modelBytes, cacheBytes });
}
