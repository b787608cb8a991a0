import { InputError } from "../base/errors.ts";
import type { WasmFeatures } from "../codegen/wasm/features.ts";
import { WasmModule, type MemoryLimits } from "../codegen/wasm/module.ts";
import type { Graph } from "../ir/graph.ts";
import { kernels } from "../kernels/index.ts";
import { markOf, maxRowsOf } from "../kernels/kernel.ts";
import { emitPacker } from "../kernels/pack.ts";
import { emitBarrier } from "../kernels/barrier.ts";
import { isRopeAppend } from "../ops/index.ts";
import type { CachePlan, Plan, PlannedWeight } from "../plan/plan.ts";
import { pagePlace, pageTokens, type KvType } from "../quant/kv-page.ts";
import { applyPasses, passesFor, type OnPass, type Precision } from "./pipeline.ts";
import { planFunction, type Surroundings } from "./plan-function.ts";
import { select } from "./select.ts";
import { modelFacts, WeightPlanner, type WeightRoom, type WeightShapes } from "./weights.ts";

export interface CompileOptions {
  readonly graphs: readonly Graph[];
  readonly weights: WeightShapes;
  readonly precision: Precision;
  readonly features: WasmFeatures;
  /** Most keys that one row can see: the context, or the window. */
  readonly maxKeys: number;
  readonly memory: MemoryLimits;
  /** Of a memory of 4 GiB where absent. */
  readonly room?: WeightRoom;
  readonly onPass?: OnPass | undefined;
}

/** Compiles all functions of a model to one plan and one WebAssembly module. */
export function compile(options: CompileOptions): { plan: Plan; text: () => string } {
  const { precision, features, maxKeys, memory, onPass } = options;
  const passes = passesFor(precision, options.weights);
  const graphs = options.graphs.map((graph) => applyPasses(graph, passes, onPass));
  const weights = new WeightPlanner(options.weights, options.room);
  const module = new WasmModule({ memory });
  emitBarrier(module);
  const programs = new Set<string>();
  let scratchBytes = 0;
  const around: Surroundings = {
    features,
    maxKeys,
    weight: weights.packed,
    plain: weights.plain,
    program(name, emit) {
      if (!programs.has(name)) emit(module, name);
      programs.add(name);
      return name;
    },
    scratch: (bytes) => (scratchBytes = Math.max(scratchBytes, bytes)),
  };
  const facts = modelFacts(options.weights);
  const functions = graphs.map((graph) =>
    planFunction(graph, select(graph, kernels, facts), around),
  );
  const packed = weights.list.map((weight): PlannedWeight => {
    const { format, layout, memory } = weight;
    if (layout === "plain") return weight;
    const name = `pack ${format}${markOf(memory)}`;
    const packer = around.program(name, (module) => emitPacker(module, name, weight));
    return { ...weight, packer };
  });
  module.memories = weights.bytes.length;
  const plan: Plan = {
    functions,
    weights: packed,
    weightBytes: weights.bytes,
    slots: slotsOf(functions),
    cache: cachePlanOf(graphs, precision.kv),
    programs: [...programs],
    scratchBytes,
    module: module.toBytes(),
  };
  return { plan, text: () => module.toText() };
}

/** Inputs and outputs by name, each as large as the function that needs most. */
function slotsOf(functions: Plan["functions"]): Plan["slots"] {
  const slots = new Map<string, number>();
  for (const { name, place, bytes } of functions.flatMap(({ buffers }) => buffers))
    if (place.kind === "slot") slots.set(name, Math.max(bytes, slots.get(name) ?? 0));
  return [...slots].map(([name, bytes]) => ({ name, bytes }));
}

/** What the graphs say about the cache; undefined where they use none. */
export function cachePlanOf(graphs: readonly Graph[], kv: KvType): CachePlan | undefined {
  const appends = graphs.flatMap((graph) => graph.nodes.filter(isRopeAppend));
  if (appends.length === 0) return undefined;
  const [kvHeads, headDim, ropeBase] = ["kvHeads", "headDim", "ropeBase"].map((key) => {
    const [value, ...others] = new Set(appends.map((node) => node.number(key)));
    if (others.length === 0) return value;
    throw new InputError("cache-shape", `all layers of a model must share ${key}`);
  });
  const shape = { kv, kvHeads, headDim };
  const { pageBytes } = pagePlace(shape);
  const layers = 1 + Math.max(...appends.map((node) => node.number("layer")));
  const maxRows = Math.max(...appends.map(({ inputs: [qkv] }) => maxRowsOf(qkv)));
  return { layers, ...shape, pageTokens, pageBytes, ropeBase, maxRows };
}
