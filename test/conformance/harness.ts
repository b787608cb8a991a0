/**
 * Runs graphs on the interpreter, and on the programs of the wasm device on this thread. More threads are played one after the
 * other: each runs as far as the next barrier before another starts, so that a barrier that is missing shows.
 */
import type { WasmFeatures } from "../../src/codegen/wasm/features.ts";
import { cachePlanOf, compile } from "../../src/compiler/compile.ts";
import { applyPasses, passesFor } from "../../src/compiler/pipeline.ts";
import type { WeightShapes } from "../../src/compiler/weights.ts";
import { evaluate } from "../../src/devices/interpreter.ts";
import { stepTables } from "../../src/devices/wasm/device.ts";
import { mapMemory, wasmPage, type MemoryMap } from "../../src/devices/wasm/memory-map.ts";
import { countOf, createRunner } from "../../src/devices/wasm/runner.ts";
import type { Place } from "../../src/devices/wasm/team.ts";
import { packShare, type PackJob } from "../../src/devices/wasm/weights.ts";
import type { DimBindings } from "../../src/ir/dim.ts";
import type { CacheRows, Graph, NumericArray } from "../../src/ir/graph.ts";
import type { StepLayout } from "../../src/ir/step-layout.ts";
import { ropeAngles } from "../../src/ops/rope.ts";
import type { Digits } from "../../src/ops/index.ts";
import { tableNames, type CachePlan, type Plan } from "../../src/plan/plan.ts";
import { dequantize, type FormatName } from "../../src/quant/formats.ts";
import { withDots, type Target } from "./targets.ts";
import type { KvType } from "../../src/quant/kv-page.ts";

/** A parameter as a file holds it, in one or more parts one below the other. */
export interface WeightData {
  readonly name: string;
  readonly parts: readonly WeightPart[];
}
export interface WeightPart {
  readonly format: FormatName;
  readonly rows: number;
  readonly columns: number;
  readonly bytes: Uint8Array;
}

export interface Model {
  readonly graphs: readonly Graph[];
  readonly weights: readonly WeightData[];
  readonly digits?: Digits;
  readonly kv?: KvType;
  /** Most keys that a row sees. */
  readonly maxKeys?: number;
  /** Pages of the cache. */
  readonly pages?: number;
}

export interface RunInput {
  readonly sizes?: DimBindings;
  readonly inputs?: Readonly<Record<string, NumericArray>>;
  readonly step?: StepLayout;
}
export type Outputs = Readonly<Record<string, Float32Array>>;

const precisionOf = ({ digits = 1, kv = "f32" }: Model) => ({ digits, kv }) as const;
const shapesOf = ({ weights }: Model): WeightShapes =>
  new Map(weights.map(({ name, parts }) => [name, parts]));

export const compileModel = (
  model: Model,
  features: WasmFeatures,
): { plan: Plan; text: () => string } =>
  compile({
    graphs: model.graphs,
    weights: shapesOf(model),
    precision: precisionOf(model),
    features,
    maxKeys: model.maxKeys ?? 1024,
    memory: { initial: 1, maximum: 2048, shared: true },
    onPass: verified,
  });

/** Looks at the graph after each pass, so that it is verified. */
export const verified = (): void => {};

/** Graphs as they are after all passes: with everything that is rounded rounded. */
export function loweredGraphs(model: Model): Graph[] {
  const passes = passesFor(precisionOf(model), shapesOf(model));
  return model.graphs.map((graph) => applyPasses(graph, passes, verified));
}

/** The definition of correct: the graphs after all passes, on dequantised weights. */
export class Reference {
  readonly #graphs: readonly Graph[];
  readonly #weights: ReadonlyMap<string, Float32Array>;
  readonly #cache: CachePlan | undefined;
  readonly #layers: readonly CacheRows[];

  constructor(model: Model, graphs: readonly Graph[] = loweredGraphs(model)) {
    this.#graphs = graphs;
    this.#weights = new Map(model.weights.map((weight) => [weight.name, widen(weight)]));
    this.#cache = cachePlanOf(graphs, model.kv ?? "f32");
    const { layers, kvHeads, headDim, pageTokens } = this.#cache ?? noCache;
    const slots = (model.pages ?? 0) * pageTokens * kvHeads * headDim;
    const plane = () => new Float32Array(slots);
    this.#layers = Array.from({ length: layers }, () => ({ keys: plane(), values: plane() }));
  }

  run(name: string, { sizes = {}, inputs = {}, step }: RunInput): Outputs {
    const graph = this.#graphs.find((candidate) => candidate.name === name);
    if (graph === undefined) throw new Error(`no graph named ${name}`);
    return evaluate(graph, {
      sizes,
      input: (input) => inputs[input],
      param: (param) => this.#weights.get(param) ?? new Float32Array(),
      cache: () => {
        if (this.#cache === undefined || step === undefined) throw new Error("no cache");
        const { pageTokens } = this.#cache;
        return { pageTokens, step, layers: this.#layers };
      },
    }) as Outputs;
  }
}
const noCache = { layers: 0, kvHeads: 0, headDim: 0, pageTokens: 16 };

export function widen({ parts }: WeightData): Float32Array {
  const wide = parts.map(({ format, rows, columns, bytes }) => {
    const out = new Float32Array(rows * columns);
    dequantize(format, bytes, out);
    return out;
  });
  const all = new Float32Array(wide.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of wide) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** A model compiled for a target, its weights packed, on `threads` threads played by this one. */
export class Wasm {
  readonly plan: Plan;
  readonly #map: MemoryMap;
  readonly #memory: WebAssembly.Memory;
  readonly #runStep: ReturnType<typeof createRunner>;
  readonly #cacheAt: number;
  readonly #layerBytes: number;

  constructor(model: Model, target: Target, threads = 1, order: ThreadOrder = "last ahead") {
    this.plan = withDots(target, () => compileModel(model, target.features)).plan;
    this.#map = mapMemory(this.plan, threads);
    this.#cacheAt = this.#map.end;
    this.#layerBytes = (model.pages ?? 0) * (this.plan.cache?.pageBytes ?? 0);
    const stagingAt = this.#cacheAt + this.#layerBytes * (this.plan.cache?.layers ?? 0) + 65536;
    const most = Math.max(
      0,
      ...model.weights.flatMap(({ parts }) => parts.map(({ bytes }) => bytes.length)),
    );
    const pages = Math.ceil((stagingAt + most) / wasmPage);
    this.#memory = new WebAssembly.Memory({ initial: pages, maximum: 2048, shared: true });
    const module = new WebAssembly.Module(this.plan.module);
    const { exports } = new WebAssembly.Instance(module, { env: { memory: this.#memory } });
    const played = playThreads(exports, this.#map, threads, order);
    this.#runStep = createRunner({ ...this.#place, programs: played, threads });
    this.#poison(stagingAt);
    this.#pack(model, stagingAt, exports);
  }

  /** Memory is not zero in a process that has run before: nothing may rely on it. */
  #poison(end: number): void {
    const at = Math.ceil((this.#map.weights + this.plan.weightBytes[0]) / 4);
    new Uint32Array(this.#memory.buffer).fill(0x7fc0dead, at, end >> 2);
  }

  get #place(): Omit<Place, "threads" | "programs"> {
    const memories = [this.#memory];
    return { plan: this.plan, map: this.#map, memories, thread: 0, times: new Float64Array() };
  }

  #pack(model: Model, stagingAt: number, programs: WebAssembly.Exports): void {
    this.plan.weights.forEach((planned, index) => {
      const data = model.weights.find(({ name }) => name === planned.param);
      const bytes = data?.parts[planned.segment].bytes ?? new Uint8Array();
      new Uint8Array(this.#memory.buffer).set(bytes, stagingAt);
      const job: PackJob = {
        kind: "pack",
        weight: index,
        firstRow: 0,
        rows: planned.rows,
        rowOrder: { kind: "plain" },
        staging: stagingAt,
      };
      packShare(job, { ...this.#place, programs, threads: 1 });
    });
  }

  run(name: string, { sizes = {}, inputs = {}, step }: RunInput): Outputs {
    const fn = this.plan.functions.find((candidate) => candidate.name === name);
    if (fn === undefined) throw new Error(`no function named ${name}`);
    for (const [key, values] of Object.entries(inputs)) this.#write(this.#map.slots[key], values);
    const pageTable = this.#map.end + this.#layerBytes * (this.plan.cache?.layers ?? 0);
    if (step) this.#writeStep(step, pageTable);
    const cache = { pages: this.#cacheAt, layerBytes: this.#layerBytes, pageTable, copies: [] };
    this.#runStep({ kind: "run", functions: [name], sizes, ...cache, isTimed: false });
    return Object.fromEntries(
      fn.outputs.map(({ name: output, elements, width }) => {
        const count = countOf(elements, sizes) * width;
        const values = new Float32Array(this.#memory.buffer, this.#map.slots[output], count);
        return [output, values.slice()];
      }),
    );
  }

  #write(at: number, values: NumericArray): void {
    new Uint8Array(this.#memory.buffer).set(
      new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
      at,
    );
  }

  #writeStep(step: StepLayout, pageTable: number): void {
    const { headDim, ropeBase } = this.plan.cache ?? { headDim: 0, ropeBase: 0 };
    const tables = stepTables(step, ropeAngles(ropeBase, headDim));
    for (const name of tableNames)
      this.#write(name === "pageTable" ? pageTable : this.#map.tables[name], tables[name]);
  }
}

/** Which thread runs first from barrier to barrier. */
export type ThreadOrder = "first ahead" | "last ahead";

/** Programs that wait for the barrier, and then run for one thread after the other. */
function playThreads(
  exports: WebAssembly.Exports,
  map: MemoryMap,
  threads: number,
  order: ThreadOrder,
): WebAssembly.Exports {
  if (threads === 1) return exports;
  const turns = Array.from({ length: threads }, (_, thread) => thread);
  if (order === "last ahead") turns.reverse();
  let waiting: ((thread: number) => void)[] = [];
  const barrier = (): void => {
    for (const thread of turns) for (const run of waiting) run(thread);
    waiting = [];
    (exports.barrier as (threads: number) => void)(1);
  };
  const played = Object.entries(exports).map(([name, run]) => {
    if (name === "barrier") return [name, barrier];
    if (typeof run !== "function" || name === "copy-bytes") return [name, run];
    const later = (...args: number[]): void => {
      const own = args.slice(0, -3);
      waiting.push((thread) =>
        run(...own, thread, threads, map.scratch + thread * map.scratchStride),
      );
    };
    return [name, later];
  });
  return Object.fromEntries(played) as WebAssembly.Exports;
}
