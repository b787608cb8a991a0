import { refusal, throwIfAborted, UnsupportedError } from "./base/errors.ts";
import { cachePlanOf, compile } from "./compiler/compile.ts";
import { applyPasses, passesFor, type Precision } from "./compiler/pipeline.ts";
import type { DeviceModel, WeightSource } from "./devices/device.ts";
import { Interpreter, widen } from "./devices/interpreter.ts";
import { WasmModel } from "./devices/wasm/device.ts";
import { importedMemory } from "./devices/wasm/memory-map.ts";
import { probeFeatures, type ProbeReport } from "./devices/wasm/probe.ts";
import type { LoadProgress } from "./devices/wasm/weights.ts";
import { Engine, sequence } from "./engine/engine.ts";
import type { Graph } from "./ir/graph.ts";
import { checkOptions, type CompileModuleOptions, type LoadOptions } from "./load-options.ts";
import { MistralConfig } from "./models/mistral/config.ts";
import { MistralForCausalLM } from "./models/mistral/model.ts";
import type { Module } from "./nn/module.ts";
import type { ModuleSpec } from "./nn/spec.ts";
import { trace } from "./nn/trace.ts";
import { formatBytes } from "./quant/formats.ts";
import { CompiledModel } from "./runtime/compiled-model.ts";
import type { Window } from "./runtime/window.ts";
import { bindWeights } from "./weights/bind.ts";
import { openCheckpoint, type Checkpoint } from "./weights/checkpoint.ts";

/** A module that tells how it is called. */
export type Compilable = Module & { getDefaultSpec(): ModuleSpec };

/** A module compiled for the wasm device, before any weight is loaded: a plan, and all its programs as WebAssembly text. */
export interface CompiledPlan extends Readonly<ReturnType<typeof compile>> {
  readonly probe: ProbeReport;
  readonly compileMs: number;
}

const defaults = { chunk: 512, maxKeys: 8192, activations: "i8" } as const;
/** Most tokens of a sequence that are reserved unasked. */
const mostContext = 8192;

type Weights = readonly WeightSource[];

function precisionOf(options: CompileModuleOptions): Precision {
  const { activations = defaults.activations } = options;
  const { kv = activations === "i8" ? "f16" : "f32" } = options;
  return { kv, digits: activations === "i8" ? 1 : 2 };
}

const shapesOf = (weights: Weights): ReadonlyMap<string, WeightSource["segments"]> =>
  new Map(weights.map(({ name, segments }) => [name, segments]));

/** The functions of the module's spec, or those that are asked for, as graphs. */
function traceGraphs(module: Compilable, options: CompileModuleOptions): Graph[] {
  const { functions, chunk = defaults.chunk } = options;
  const spec = Object.entries(module.getDefaultSpec());
  const asked = spec.filter(([name]) => functions?.includes(name) ?? true);
  const rows = { min: 1, max: chunk };
  return trace(module, Object.fromEntries(asked), { seq_len: rows, batch_size: rows });
}

/** Compiles a module, traced by now or not, for the formats of its weights. */
export function planModule(
  module: Compilable,
  weights: Weights,
  options: CompileModuleOptions = {},
  graphs: readonly Graph[] = traceGraphs(module, options),
): CompiledPlan {
  const start = performance.now();
  const { maxKeys = defaults.maxKeys, onPass } = options;
  const model = { graphs, weights: shapesOf(weights), precision: precisionOf(options) };
  const probe = probeFeatures({ mayRevectorize: options.revectorize !== "off" });
  const device = { features: probe, memory: importedMemory };
  const compiled = compile({ ...model, ...device, maxKeys, onPass });
  return { ...compiled, probe, compileMs: performance.now() - start };
}

/**
 * Compiles a module of language-model shape (embed; prefill, decode, … to `logits`) and loads its weights. Errors:
 * UnsupportedError where the device lacks something, ResourceError where the memory does not suffice, AbortError.
 */
export async function compileModule(
  module: Compilable,
  weights: Weights,
  options: CompileModuleOptions = {},
): Promise<CompiledModel> {
  checkOptions(options);
  const { threads = navigator.hardwareConcurrency, cacheTokens = 0, signal, onProgress } = options;
  onProgress?.({ phase: "compile" });
  const graphs = traceGraphs(module, options);
  const named = (...names: string[]) => graphs.find(({ name }) => names.includes(name));
  const [embed, prefill] = [named("embed"), named("batch_prefill", "prefill")];
  const cache = cachePlanOf(graphs, precisionOf(options).kv);
  const needs = "the module needs the functions embed and prefill, and a cache";
  if (!embed || !prefill || !cache) throw new UnsupportedError("module", needs);
  const onBytes = (loadedBytes: number, totalBytes: number): void =>
    onProgress?.({ phase: "weights", loadedBytes, totalBytes });
  let device: DeviceModel;
  if (options.device === "interpreter") {
    const passes = passesFor(precisionOf(options), shapesOf(weights));
    const passed = graphs.map((graph) => applyPasses(graph, passes));
    const values = await widenAll(weights, { onBytes, signal });
    device = new Interpreter({ graphs: passed, cache, weights: values });
  } else {
    const { plan, probe } = planModule(module, weights, options, graphs);
    const loading = { sources: weights, onBytes, signal };
    const { revectorize } = probe;
    device = await WasmModel.create(plan, { threads, cacheTokens, revectorize, ...loading });
  }
  onProgress?.({ phase: "ready" });
  const width = (graph: Graph): number => Number(graph.outputs[0].node.shape.at(-1));
  const { layers, pageTokens, maxRows } = cache;
  const shape = { hidden: width(embed), vocab: width(prefill), layers, pageTokens, maxRows };
  return new CompiledModel(device, shape);
}

/** All weights as f32, for the interpreter. */
async function widenAll(weights: Weights, { onBytes, signal }: LoadProgress) {
  const values = new Map<string, Float32Array>();
  for (const [at, weight] of weights.entries()) {
    throwIfAborted(signal);
    onBytes?.(bytesOf(weights.slice(0, at)), bytesOf(weights));
    values.set(weight.name, await widen(weight));
  }
  return values;
}

/** Bytes of the file that the weights are read from. */
const bytesOf = (weights: Weights): number =>
  weights
    .flatMap(({ segments }) => segments)
    .reduce((sum, { format, rows, columns }) => sum + rows * formatBytes(format, columns), 0);

/** A checkpoint with everything decided that can be decided before weights are read. */
export interface Prepared extends AsyncDisposable {
  readonly checkpoint: Checkpoint;
  readonly config: MistralConfig;
  readonly module: MistralForCausalLM;
  readonly weights: Weights;
  /** Options for `compileModule` that follow from the config: for all functions, and for those that an engine calls. */
  readonly compile: CompileModuleOptions;
  readonly engine: CompileModuleOptions;
  /** Most tokens of a sequence; Infinity where the window alone bounds the memory. */
  readonly context: number;
  readonly window: Window | undefined;
  /** Most tokens that the cache must hold for one sequence: the context, or the window and one chunk. */
  readonly cacheTokens: number;
}

/** Opens a checkpoint, checks its config and its weights. Errors: InputError, UnsupportedError, with the file and the field. */
export async function prepare(path: string | Blob, options: LoadOptions = {}): Promise<Prepared> {
  checkOptions(options);
  options.onProgress?.({ phase: "open" });
  const checkpoint = await openCheckpoint(path);
  try {
    return decide(checkpoint, options);
  } catch (error) {
    await checkpoint[Symbol.asyncDispose]();
    throw error;
  }
}

function decide(checkpoint: Checkpoint, options: LoadOptions): Prepared {
  const { where, json } = checkpoint.config;
  const { onNotice: notice = () => {} } = options;
  const overrides = overridesOf(options, json);
  const config = MistralConfig.parse(json, { where, overrides, notice });
  const module = new MistralForCausalLM(config);
  const weights = bindWeights(checkpoint, module, { headDim: config.head_dim });
  const { sliding_window_size: size, attention_sink_size: sinks, context_window_size } = config;
  const window = size > 0 ? { size, sinks } : undefined;
  if (options.sinks !== undefined && window === undefined)
    refusal("option", "sinks", {})("the model has no sliding window; give one (--sliding-window)");
  const context = context_window_size > 0 ? context_window_size : Infinity;
  const chunk = options.chunk ?? Math.min(defaults.chunk, config.prefill_chunk_size);
  const maxKeys = Math.min(context, window?.size ?? Infinity);
  const cacheTokens = window ? Math.min(context, window.size + chunk + 32) : context;
  const { kv } = precisionOf(options);
  const compile = { ...defaults, ...options, kv, chunk, maxKeys };
  const engine = { ...compile, functions: ["embed", "batch_prefill"], cacheTokens };
  const dispose = (): PromiseLike<void> => checkpoint[Symbol.asyncDispose]();
  const opened = { checkpoint, config, module, weights, [Symbol.asyncDispose]: dispose };
  return { ...opened, compile, engine, context, window, cacheTokens };
}

/** The options as overrides of the config; a context of tens of thousands of tokens is not reserved unless asked for. */
function overridesOf(options: LoadOptions, json: Checkpoint["config"]["json"]) {
  const { context, slidingWindow, sinks, chunk, onNotice } = options;
  const whole = json.context_window_size ?? json.max_position_embeddings;
  const windowed = slidingWindow ?? json.sliding_window_size ?? json.sliding_window;
  const hasWindow = typeof windowed === "number" && windowed > 0;
  const isLong = typeof whole === "number" && whole > mostContext;
  const shorten = context === undefined && !hasWindow && isLong;
  const advice = "raise it with the option context";
  if (shorten)
    onNotice?.(`the context is ${mostContext} tokens of the model's ${whole}; ${advice}`);
  const asked = {
    sliding_window_size: slidingWindow,
    attention_sink_size: sinks,
    prefill_chunk_size: chunk,
    context_window_size: shorten ? mostContext : context,
  };
  return Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined));
}

/**
 * Loads a checkpoint (a GGUF or safetensors file, or a folder; at a URL or as a blob, a GGUF file) and compiles it for the
 * device at hand. Errors: InputError for a file or option that is wrong, UnsupportedError for what is not computed,
 * ResourceError where the memory does not suffice.
 */
export async function load(path: string | Blob, options: LoadOptions = {}): Promise<Engine> {
  await using prepared = await prepare(path, options);
  const { checkpoint, module, weights, context, window } = prepared;
  const model = await compileModule(module, weights, prepared.engine);
  const sizes = { max_batch_size: 1, max_total_seq_len: prepared.cacheTokens };
  const created = model.create_paged_kv_cache(sizes);
  await created.catch(() => model[Symbol.asyncDispose]());
  const cache = await created;
  cache.add(sequence);
  if (window) cache.enableSlidingWindow(sequence, window.size, window.sinks);
  return new Engine(model, cache, checkpoint, context);
}
