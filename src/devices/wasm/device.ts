import { InternalError, ResourceError } from "../../base/errors.ts";
import type { MemoryLimits } from "../../codegen/wasm/module.ts";
import { RopeTable } from "../../ops/rope.ts";
import type { StepLayout } from "../../ir/step-layout.ts";
import { tableNames, type CachePlan, type Plan } from "../../plan/plan.ts";
import type {
  CacheRows,
  CacheStorage,
  DeviceModel,
  RunRequest,
  RunResult,
  WeightSource,
} from "../device.ts";
import { loadWeights, type LoadProgress } from "./load-weights.ts";
import {
  createMemory,
  Heap,
  mapMemory,
  mostBytes,
  planCache,
  wasmPage,
  type MemoryMap,
} from "./memory-map.ts";
import type { CopyPages } from "./protocol.ts";
import { readSlots } from "./read-cache.ts";
import { Team } from "./team.ts";

/** The memory that a compiled module imports: its size is known only after planning. */
export const importedMemory: MemoryLimits = {
  initial: 1,
  maximum: mostBytes / wasmPage,
  shared: true,
};

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

/** A model compiled to WebAssembly, on worker threads over one shared memory. */
export class WasmModel implements DeviceModel {
  readonly threads: number;
  readonly #plan: Plan;
  readonly #map: MemoryMap;
  readonly #memory: WebAssembly.Memory;
  readonly #heap: Heap;
  readonly #team: Team;
  readonly #rope: RopeTable | undefined;
  /** Page table and copies of a step; moves when a step needs more. */
  #stepArea: { readonly at: number; readonly bytes: number };

  private constructor(
    plan: Plan,
    map: MemoryMap,
    memory: WebAssembly.Memory,
    team: Team,
    threads: number,
  ) {
    this.threads = threads;
    this.#plan = plan;
    this.#map = map;
    this.#memory = memory;
    this.#team = team;
    this.#heap = new Heap(memory, map.end);
    this.#rope = plan.cache && new RopeTable(plan.cache.ropeBase, plan.cache.headDim);
    this.#stepArea = { at: this.#heap.take(4096, "step tables"), bytes: 4096 };
  }

  /** Compiles the plan's module, starts the workers and loads the weights. */
  static async create(
    plan: Plan,
    sources: readonly WeightSource[],
    options: { readonly threads: number; readonly cacheTokens: number } & LoadProgress,
  ): Promise<WasmModel> {
    const { threads } = options;
    const map = mapMemory(plan, threads);
    checkMemory(plan, map.end, options.cacheTokens);
    const memory = createMemory(importedMemory, map.end);
    const module = await WebAssembly.compile(plan.module);
    const { functions, weights } = plan;
    const sizeNames = sizeNamesOf(plan);
    const team = await Team.start({
      module,
      memory,
      map,
      threads,
      sizeNames,
      plan: { functions, weights },
    });
    const model = new WasmModel(plan, map, memory, team, threads);
    try {
      await loadWeights(weights, sources, memory, model.#heap, team, options);
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
    for (const [name, values] of Object.entries(inputs)) this.#write(this.#slot(name), values);
    const storage = cache && own(cache.storage);
    const step = cache ? this.#writeStep(cache.layout) : { pageTable: 0, copies: undefined };
    await this.#team.do({
      kind: "run",
      functions: functions.map((name) => this.#functionNumber(name)),
      binding: {
        sizes,
        pages: storage?.at ?? 0,
        layerBytes: storage?.layerBytes ?? 0,
        pageTable: step.pageTable,
      },
      copies: step.copies,
    });
    return Object.fromEntries(
      outputs.map((name) => [name, this.#readOutput(functions, name, sizes)] as const),
    );
  }

  async copyPages(storage: CacheStorage, copies: Int32Array): Promise<void> {
    const { at, layerBytes } = own(storage);
    const step = this.#writeArea(new Int32Array(0), copies);
    const binding = { sizes: {}, pages: at, layerBytes, pageTable: 0 };
    await this.#team.do({ kind: "run", functions: [], binding, copies: step.copies });
  }

  async readCache(storage: CacheStorage, layer: number, slots: Int32Array): Promise<CacheRows> {
    const { at, layerBytes } = own(storage);
    return readSlots(this.#memory, at + layer * layerBytes, this.#cachePlan, slots);
  }

  async dispose(): Promise<void> {
    await this.#team[Symbol.asyncDispose]();
  }

  #functionNumber(name: string): number {
    const at = this.#plan.functions.findIndex((fn) => fn.name === name);
    if (at < 0) throw new InternalError("function", `no function named ${name}`);
    return at;
  }

  #slot(name: string): number {
    const at = this.#map.slots[name];
    if (at === undefined) throw new InternalError("slot", `no input or output named ${name}`);
    return at;
  }

  #write(at: number, values: Int32Array | Float32Array): void {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    new Uint8Array(this.#memory.buffer, at, bytes.length).set(bytes);
  }

  #readOutput(
    functions: readonly string[],
    name: string,
    sizes: RunRequest["sizes"],
  ): Float32Array {
    const output = this.#plan.functions
      .filter((fn) => functions.includes(fn.name))
      .flatMap((fn) => fn.outputs)
      .findLast((candidate) => candidate.name === name);
    if (output === undefined) throw new InternalError("output", `no function gives ${name}`);
    const { elements: rows, width } = output;
    const count = rows.kind === "constant" ? rows.value : sizes[rows.name] * rows.times;
    return new Float32Array(this.#memory.buffer, this.#slot(name), count * width).slice();
  }

  /** Writes the tables of a step (ir/step-layout.ts) and the angles of its positions. */
  #writeStep(layout: StepLayout): { pageTable: number; copies: CopyPages | undefined } {
    const { maxRows, headDim } = this.#cachePlan;
    if (layout.rows > maxRows)
      throw new InternalError("rows", `a step of ${layout.rows} rows, at most ${maxRows}`);
    const angles = (positions: Int32Array): Float32Array => {
      const out = new Float32Array(layout.rows * headDim);
      this.#rope?.fill(positions, out);
      return out;
    };
    const windowAngles = angles(layout.positions);
    const sinkAngles = layout.sinkEnds.some((end) => end > 0)
      ? angles(layout.sinkPositions)
      : windowAngles;
    const tables = { ...layout, windowAngles, sinkAngles };
    for (const name of tableNames)
      if (name !== "pageTable") this.#write(this.#map.tables[name], tables[name]);
    return this.#writeArea(layout.pageTable, layout.copies);
  }

  #writeArea(
    table: Int32Array,
    pairs: Int32Array,
  ): { pageTable: number; copies: CopyPages | undefined } {
    const bytes = table.byteLength + pairs.byteLength;
    if (bytes > this.#stepArea.bytes) {
      this.#heap.release(this.#stepArea.at);
      this.#stepArea = { at: this.#heap.take(2 * bytes, "step tables"), bytes: 2 * bytes };
    }
    const { at } = this.#stepArea;
    this.#write(at, table);
    this.#write(at + table.byteLength, pairs);
    const { layers, pageBytes } = this.#cachePlan;
    const copies = { at: at + table.byteLength, count: pairs.length / 2, layers, pageBytes };
    return { pageTable: at, copies: copies.count > 0 ? copies : undefined };
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

/** Names of the symbolic sizes of a plan, in a fixed order. */
function sizeNamesOf(plan: Plan): string[] {
  const names = new Set<string>();
  for (const { steps } of plan.functions)
    for (const { rows, variants } of steps) {
      if (rows.kind === "size") names.add(rows.name);
      for (const { calls } of variants)
        for (const { args } of calls)
          for (const arg of args) if (arg.kind === "size") names.add(arg.name);
    }
  return [...names].sort();
}
