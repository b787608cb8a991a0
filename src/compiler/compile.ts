import { InputError } from "../base/errors.ts";
import type { WasmFeatures } from "../codegen/wasm/features.ts";
import type { MemoryLimits } from "../codegen/wasm/module.ts";
import type { Graph, Node } from "../ir/graph.ts";
import { verify } from "../ir/verify.ts";
import { kernels } from "../kernels/index.ts";
import { maxRowsOf, type ModelFacts } from "../kernels/kernel.ts";

import { isRopeAppend, type Digits } from "../ops/index.ts";
import type { CachePlan, Plan } from "../plan/plan.ts";
import type { FormatName } from "../quant/formats.ts";
import { passesFor, type Pass } from "./pipeline.ts";
import { planFunction } from "./plan-function.ts";
import { emitSupport } from "../kernels/support.ts";
import { ProgramSet } from "./programs.ts";
import { select } from "./select.ts";
import { WeightPlanner } from "./weights.ts";
import { pagePlace, pageTokens, type KvType } from "../quant/kv-page.ts";

/** Formats and sizes of a parameter's parts, in the order of its rows. */
export type WeightShapes = ReadonlyMap<string, readonly WeightShape[]>;
export interface WeightShape {
  readonly format: FormatName;
  readonly rows: number;
  readonly columns: number;
}

export interface Precision {
  /** How the inputs of integer matmuls are rounded. */
  readonly digits: Digits;
  readonly kv: KvType;
}

export interface CompileOptions {
  readonly graphs: ReadonlyMap<string, Graph>;
  readonly weights: WeightShapes;
  readonly precision: Precision;
  readonly features: WasmFeatures;
  /** Most keys that one row can see: the context, or the window. */
  readonly maxKeys: number;
  readonly memory: MemoryLimits;
  /** Called with the graph after each pass. */
  readonly onPass?: (graph: Graph, pass: string) => void;
}

/** Applies the passes in order. */
export function applyPasses(
  graph: Graph,
  passes: readonly Pass[],
  onPass: (graph: Graph, pass: string) => void = () => {},
): Graph {
  let current = verify(graph);
  onPass(current, "trace");
  for (const [name, run] of passes) {
    current = verify(run(current), name);
    onPass(current, name);
  }
  return current;
}

/** Compiles all functions of a model to one plan and one WebAssembly module. */
export function compile(options: CompileOptions): { plan: Plan; text: () => string } {
  const passes = passesFor(options.precision, options.weights);
  const graphs = [...options.graphs.values()].map((graph) =>
    applyPasses(graph, passes, options.onPass),
  );
  const weights = new WeightPlanner(options.weights);
  const programs = new ProgramSet(options.memory);
  emitSupport(programs.module);
  const facts: ModelFacts = {
    isPacked: (param) => param.shape.length === 2 && weights.isPackable(param.string("name")),
    isInteger: (param) => weights.isInteger(param.string("name")),
  };
  const functions = graphs.map((graph) =>
    planFunction(graph, select(graph, kernels, facts), {
      features: options.features,
      maxKeys: options.maxKeys,
      programs,
      packed: (param) => weights.parts(param.string("name")),
      plain: (param) => weights.plain(param.string("name")),
    }),
  );
  const plan: Plan = {
    functions,
    weights: weights.list(),
    weightBytes: weights.bytes,
    slots: slotsOf(functions),
    cache: cachePlanOf(graphs, options.precision.kv),
    programs: programs.list(),
    scratchBytes: programs.scratchBytes,
    module: programs.module.toBytes(),
  };
  return { plan, text: () => programs.module.toText() };
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
  const shape = { kv, kvHeads: first.number("kvHeads"), headDim: first.number("headDim") };
  const same = (node: Node): boolean =>
    ["kvHeads", "headDim", "ropeBase"].every((key) => node.attrs[key] === first.attrs[key]);
  if (!appends.every(same))
    throw new InputError(
      "cache-shape",
      "all layers of a model must share kvHeads, headDim and ropeBase",
    );
  return {
    layers: 1 + Math.max(...appends.map((node) => node.number("layer"))),
    ...shape,
    pageTokens,
    pageBytes: pagePlace(shape).pageBytes,
    ropeBase: first.number("ropeBase"),
    maxRows: Math.max(...appends.map(({ inputs: [qkv] }) => maxRowsOf(qkv))),
  };
}
