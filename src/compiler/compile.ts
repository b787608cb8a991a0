import { InputError } from "../base/errors.ts";
import type { WasmFeatures } from "../codegen/wasm/features.ts";
import { WasmModule, type MemoryLimits } from "../codegen/wasm/module.ts";
import type { Graph } from "../ir/graph.ts";
import { verify } from "../ir/verify.ts";
import { kernels } from "../kernels/index.ts";
import { markOf, maxRowsOf } from "../kernels/kernel.ts";
import { packerOf } from "../kernels/pack.ts";
import { emitSupport } from "../kernels/support.ts";
import { isRopeAppend } from "../ops/index.ts";
import type { CachePlan, Plan, PlannedWeight } from "../plan/plan.ts";
import { pagePlace, pageTokens, type KvType } from "../quant/kv-page.ts";
import { passesFor, type Pass, type Precision } from "./pipeline.ts";
import { planFunction, type Surroundings } from "./plan-function.ts";
import { select } from "./select.ts";
import { WeightPlanner, type WeightRoom, type WeightShapes } from "./weights.ts";

export type { Precision } from "./pipeline.ts";
export type { WeightShapes } from "./weights.ts";

/** Called with the graph after each pass, which is then verified. */
export type OnPass = (graph: Graph, pass: string) => void;

export interface CompileOptions {
  readonly graphs: ReadonlyMap<string, Graph>;
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

/** Applies the passes in order. What was traced is verified always, what passes make of it for those who look at it. */
export function applyPasses(graph: Graph, passes: readonly Pass[], onPass?: OnPass): Graph {
  let current = verify(graph);
  onPass?.(current, "trace");
  for (const [name, run] of passes) {
    current = run(current);
    onPass?.(verify(current, name), name);
  }
  return current;
}

/** Compiles all functions of a model to one plan and one WebAssembly module. */
export function compile(options: CompileOptions): { plan: Plan; text: () => string } {
  const { precision, features, maxKeys, memory, onPass } = options;
  const passes = passesFor(precision, options.weights);
  const graphs = [...options.graphs.values()].map((graph) => applyPasses(graph, passes, onPass));
  const weights = new WeightPlanner(options.weights, options.room);
  const module = new WasmModule({ memory });
  emitSupport(module);
  const programs = new Set<string>();
  let scratchBytes = 0;
  const around: Surroundings = {
    features,
    maxKeys,
    weight: (param) => weights.parts(param),
    plain: (param) => weights.plain(param),
    program(name, emit) {
      if (!programs.has(name)) emit(module, name);
      programs.add(name);
      return name;
    },
    scratch(bytes) {
      scratchBytes = Math.max(scratchBytes, bytes);
    },
  };
  const functions = graphs.map((graph) =>
    planFunction(graph, select(graph, kernels, weights), around),
  );
  const packed = weights.list.map((weight): PlannedWeight => {
    const { format, layout, memory } = weight;
    const emit = layout === "packed" ? packerOf(format) : undefined;
    if (emit === undefined) return weight;
    const packer = around.program(`pack ${format}${markOf(memory)}`, (into, name) =>
      emit(into, name, memory),
    );
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
  const bytes = new Map<string, number>();
  for (const { buffers } of functions)
    for (const { name, place, bytes: size } of buffers)
      if (place.kind === "slot") bytes.set(name, Math.max(size, bytes.get(name) ?? 0));
  return [...bytes].map(([name, size]) => ({ name, bytes: size }));
}

/** What the graphs say about the cache; undefined where they use none. */
export function cachePlanOf(graphs: readonly Graph[], kv: KvType): CachePlan | undefined {
  const appends = graphs.flatMap((graph) => graph.nodes.filter(isRopeAppend));
  if (appends.length === 0) return undefined;
  const [first] = appends;
  const shared = ["kvHeads", "headDim", "ropeBase"] as const;
  if (appends.some(({ attrs }) => shared.some((key) => attrs[key] !== first.attrs[key])))
    throw new InputError(
      "cache-shape",
      "all layers of a model must share kvHeads, headDim and ropeBase",
    );
  const shape = { kv, kvHeads: first.number("kvHeads"), headDim: first.number("headDim") };
  return {
    layers: 1 + Math.max(...appends.map((node) => node.number("layer"))),
    ...shape,
    pageTokens,
    pageBytes: pagePlace(shape).pageBytes,
    ropeBase: first.number("ropeBase"),
    maxRows: Math.max(...appends.map(({ inputs: [qkv] }) => maxRowsOf(qkv))),
  };
}
