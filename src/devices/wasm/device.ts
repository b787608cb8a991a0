import { InternalError, ResourceError } from "../../base/errors.ts";
import type { DimBindings } from "../../ir/dim.ts";
import type { StepLayout } from "../../ir/step-layout.ts";
import { RopeTable } from "../../ops/rope.ts";
import { tableNames, type CachePlan, type Plan, type PlannedOutput } from "../../plan/plan.ts";
import type {
  CacheRows,
  CacheStorage,
  DeviceModel,
  RunRequest,
  RunResult,
  WeightSource,
} from "../device.ts";
import { Heap, mapMemory, mostBytes, planCache, type MemoryMap } from "./memory-map.ts";
import { readSlots } from "./read-cache.ts";
import { countOf } from "./runner.ts";
import { Team } from "./team.ts";
import { loadWeights, type LoadProgress } from "./weights.ts";

class WasmCache implements CacheStorage {
  readonly pages: number;
  readonly bytes: number;
  readonly at: number;
  readonly layerBytes: number;
  readonly #heap: Heap;

  constructor(heap: Heap, { layers, pageBytes }: CachePlan, pages: number) {
    this.#heap = heap;
    this.pages = pages;
    this.layerBytes = pages * pageBytes;
    this.bytes = layers * this.layerBytes;
    this.at = heap.take(this.bytes, `a cache of ${pages} pages`);
  }

  dispose(): void {
    this.#heap.release(this.at);
  }
}

/** Where pages are while there is no cache. */
const nowhere = { at: 0, layerBytes: 0 } as const;

/** A model compiled to WebAssembly, on worker threads over one shared memory. */
export class WasmModel implements DeviceModel {
  readonly threads: number;
  readonly #plan: Plan;
  readonly #map: MemoryMap;
  readonly #heap: Heap;
  readonly #team: Team;
  readonly #rope: RopeTable | undefined;
  /** Moves when a step needs more. */
  #pageTable: { readonly at: number; readonly bytes: number };

  private constructor(plan: Plan, map: MemoryMap, module: WebAssembly.Module, threads: number) {
    this.threads = threads;
    this.#plan = plan;
    this.#map = map;
    this.#heap = new Heap(map.end);
    this.#rope = plan.cache && new RopeTable(plan.cache.ropeBase, plan.cache.headDim);
    this.#pageTable = { at: this.#heap.take(4096, "step tables"), bytes: 4096 };
    const { functions, weights, cache } = plan;
    const { memory } = this.#heap;
    this.#team = new Team({ module, memory, map, threads, plan: { functions, weights, cache } });
  }

  /** Compiles the plan's module, starts the workers and loads the weights. */
  static async create(
    plan: Plan,
    sources: readonly WeightSource[],
    options: { readonly threads: number; readonly cacheTokens: number } & LoadProgress,
  ): Promise<WasmModel> {
    const map = mapMemory(plan, options.threads);
    checkMemory(plan, map.end, options.cacheTokens);
    const module = await WebAssembly.compile(plan.module);
    const model = new WasmModel(plan, map, module, options.threads);
    try {
      await loadWeights(plan.weights, sources, model.#heap, model.#team, options);
    } catch (error) {
      await model.dispose();
      throw error;
    }
    return model;
  }

  async createCache(pages: number): Promise<CacheStorage> {
    return new WasmCache(this.#heap, this.#cachePlan, pages);
  }

  get #cachePlan(): CachePlan {
    if (this.#plan.cache === undefined) throw new InternalError("cache", "the model uses no cache");
    return this.#plan.cache;
  }

  async run({ functions, sizes, inputs, outputs, cache }: RunRequest): Promise<RunResult> {
    const given = functions.flatMap((name) => this.#outputsOf(name));
    for (const [name, values] of Object.entries(inputs)) this.#heap.write(this.#slot(name), values);
    const { at: pages, layerBytes } = cache ? own(cache.storage) : nowhere;
    const pageTable = cache ? this.#writeStep(cache.layout) : 0;
    await this.#team.do({
      kind: "run",
      functions,
      binding: { sizes, pages, layerBytes, pageTable },
      copies: [...(cache?.layout.copies ?? [])],
    });
    return Object.fromEntries(outputs.map((name) => [name, this.#read(name, given, sizes)]));
  }

  async copyPages(storage: CacheStorage, copies: Int32Array): Promise<void> {
    const { at: pages, layerBytes } = own(storage);
    const binding = { sizes: {}, pages, layerBytes, pageTable: 0 };
    await this.#team.do({ kind: "run", functions: [], binding, copies: [...copies] });
  }

  async readCache(storage: CacheStorage, layer: number, slots: Int32Array): Promise<CacheRows> {
    const { at, layerBytes } = own(storage);
    return readSlots(this.#heap.memory, at + layer * layerBytes, this.#cachePlan, slots);
  }

  async dispose(): Promise<void> {
    await this.#team[Symbol.asyncDispose]();
  }

  #outputsOf(name: string): readonly PlannedOutput[] {
    const fn = this.#plan.functions.find((candidate) => candidate.name === name);
    if (fn === undefined) throw new InternalError("function", `no function named ${name}`);
    return fn.outputs;
  }

  #slot(name: string): number {
    const at = this.#map.slots[name];
    if (at === undefined) throw new InternalError("slot", `no input or output named ${name}`);
    return at;
  }

  #read(name: string, given: readonly PlannedOutput[], sizes: DimBindings): Float32Array {
    const output = given.findLast((candidate) => candidate.name === name);
    if (output === undefined) throw new InternalError("output", `no function gives ${name}`);
    const count = countOf(output.elements, sizes) * output.width;
    return new Float32Array(this.#heap.memory.buffer, this.#slot(name), count).slice();
  }

  /** Writes the tables of a step (ir/step-layout.ts) and the angles of its positions. Returns where its page table is. */
  #writeStep(layout: StepLayout): number {
    const { maxRows, headDim } = this.#cachePlan;
    if (layout.rows > maxRows)
      throw new InternalError("rows", `a step of ${layout.rows} rows, at most ${maxRows}`);
    const angles = (positions: Int32Array): Float32Array => {
      const out = new Float32Array(layout.rows * headDim);
      this.#rope?.fill(positions, out);
      return out;
    };
    const windowAngles = angles(layout.positions);
    const hasSinks = layout.sinkEnds.some((end) => end > 0);
    const sinkAngles = hasSinks ? angles(layout.sinkPositions) : windowAngles;
    const tables = { ...layout, windowAngles, sinkAngles };
    const places = { ...this.#map.tables, pageTable: this.#placeOfPageTable(layout.pageTable) };
    for (const name of tableNames) this.#heap.write(places[name], tables[name]);
    return places.pageTable;
  }

  #placeOfPageTable({ byteLength }: Int32Array): number {
    if (byteLength > this.#pageTable.bytes) {
      const bytes = 2 * byteLength;
      this.#heap.release(this.#pageTable.at);
      this.#pageTable = { at: this.#heap.take(bytes, "step tables"), bytes };
    }
    return this.#pageTable.at;
  }
}

/** Refuses what cannot fit before anything is loaded. */
function checkMemory({ weightBytes, cache }: Plan, modelBytes: number, cacheTokens: number): void {
  const { bytes: cacheBytes } = planCache(cache, cacheTokens);
  if (modelBytes + cacheBytes <= mostBytes) return;
  const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  throw new ResourceError(
    "wasm-memory",
    `the model does not fit the ${gib(mostBytes)} of a WebAssembly memory: weights ${gib(weightBytes)}, activations ${gib(modelBytes - weightBytes)}, cache of ${cacheTokens} tokens ${gib(cacheBytes)}; lower the context or the chunk, or choose a smaller cache (kv f16 or q8) or model`,
    { weightBytes, modelBytes, cacheBytes },
  );
}

function own(storage: CacheStorage): WasmCache {
  if (storage instanceof WasmCache) return storage;
  throw new InternalError("cache", "a cache of another device");
}
