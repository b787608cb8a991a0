import { availableParallelism } from "node:os";
import { InputError, throwIfAborted, UnsupportedError } from "./base/errors.ts";
import {
  applyPasses,
  cachePlanOf,
  compile,
  type Precision,
  type WeightShapes,
} from "./compiler/compile.ts";
import { passesFor } from "./compiler/pipeline.ts";
import type { DeviceModel, WeightSource } from "./devices/device.ts";
import { Interpreter, widen } from "./devices/interpreter/interpreter.ts";
import { WasmModel } from "./devices/wasm/device.ts";
import { importedMemory } from "./devices/wasm/memory-map.ts";
import { probeFeatures, type ProbeReport } from "./devices/wasm/probe.ts";
import { Engine } from "./engine/engine.ts";
import type { Graph } from "./ir/graph.ts";
import { checkOptions, type CompileModuleOptions, type LoadOptions } from "./load-options.ts";
import { MistralConfig } from "./models/mistral/config.ts";
import { MistralForCausalLM } from "./models/mistral/model.ts";
import type { Module } from "./nn/module.ts";
import type { ModuleSpec } from "./nn/spec.ts";
import { trace } from "./nn/trace.ts";
import type { Digits } from "./ops/index.ts";
import type { CachePlan, Plan } from "./plan/plan.ts";
import { formatBytes } from "./quant/formats.ts";
import { CompiledModel } from "./runtime/compiled-model.ts";
import type { PagedCache } from "./runtime/paged-cache.ts";
import { ChatTemplate } from "./text/chat-template.ts";
import { createTokenizer, type Tokenizer } from "./text/tokenizer.ts";
import { bindWeights } from "./weights/bind.ts";
import { openCheckpoint, type Checkpoint } from "./weights/checkpoint.ts";

/** A module that tells how it is called. */
export interface Compilable extends Module {
  getDefaultSpec(): ModuleSpec;
}

/** A module compiled for the wasm device, before any weight is loaded. */
export interface CompiledPlan {
  readonly plan: Plan;
  readonly probe: ProbeReport;
  readonly compileMs: number;
  /** All programs as WebAssembly text. */
  text(): string;
}

const defaults = { chunk: 512, maxKeys: 8192, context: 8192 } as const;
/** How keys, values and inputs of integer matmuls are rounded where nothing is said. */
const precise = { kv: "f16", activations: "i8" } as const;
const digitsOf = { i8: 1, i16: 2 } as const satisfies Record<"i8" | "i16", Digits>;

const precisionOf = (options: CompileModuleOptions): Precision => {
  const { kv, activations } = { ...precise, ...options };
  return { kv, digits: digitsOf[activations] };
};

const shapesOf = (weights: readonly WeightSource[]): WeightShapes =>
  new Map(weights.map(({ name, segments }) => [name, segments] as const));

/** The functions of the module's spec, or those that are asked for, as graphs. */
function traceGraphs(module: Compilable, options: CompileModuleOptions): Map<string, Graph> {
  const rows = { min: 1, max: options.chunk ?? defaults.chunk };
  const { functions } = options;
  const spec = Object.entries(module.getDefaultSpec()).filter(
    ([name]) => functions === undefined || functions.includes(name),
  );
  return trace(module, Object.fromEntries(spec), { seq_len: rows, batch_size: rows });
}

/** Traces and compiles a module for the formats of its weights. */
export function planModule(
  module: Compilable,
  weights: readonly WeightSource[],
  options: CompileModuleOptions = {},
): CompiledPlan {
  return planGraphs(traceGraphs(module, options), weights, options);
}

function planGraphs(
  graphs: ReadonlyMap<string, Graph>,
  weights: readonly WeightSource[],
  options: CompileModuleOptions,
): CompiledPlan {
  const start = performance.now();
  const probe = probeFeatures(options.revectorize);
  const { plan, text } = compile({
    graphs,
    weights: shapesOf(weights),
    precision: precisionOf(options),
    features: probe,
    maxKeys: options.maxKeys ?? defaults.maxKeys,
    memory: importedMemory,
    ...(options.onPass ? { onPass: options.onPass } : {}),
  });
  return { plan, probe, text, compileMs: performance.now() - start };
}

/**
 * Compiles a module of language-model shape (embed; prefill, decode, … to `logits`) and loads its weights. Errors:
 * UnsupportedError where the device lacks something, ResourceError where the memory does not suffice, AbortError.
 */
export async function compileModule(
  module: Compilable,
  weights: readonly WeightSource[],
  options: CompileModuleOptions = {},
): Promise<CompiledModel> {
  checkOptions(options);
  options.onProgress?.({ phase: "compile" });
  const graphs = traceGraphs(module, options);
  const { device, cache } = await createDevice(graphs, weights, options);
  const embed = graphs.get("embed");
  const logits = graphs.get("batch_prefill") ?? graphs.get("prefill");
  if (embed === undefined || logits === undefined || cache === undefined)
    throw new UnsupportedError(
      "module",
      "the module needs the functions embed and prefill, and a cache",
    );
  const width = (graph: Graph): number => Number(graph.outputs[0].node.shape.at(-1));
  options.onProgress?.({ phase: "ready" });
  return new CompiledModel(device, {
    hidden: width(embed),
    vocab: width(logits),
    layers: cache.layers,
    pageTokens: cache.pageTokens,
    maxRows: cache.maxRows,
  });
}

interface OnDevice {
  readonly device: DeviceModel;
  readonly cache: CachePlan | undefined;
}

async function createDevice(
  graphs: ReadonlyMap<string, Graph>,
  weights: readonly WeightSource[],
  options: CompileModuleOptions,
): Promise<OnDevice> {
  const onBytes = (loadedBytes: number, totalBytes: number): void =>
    options.onProgress?.({ phase: "weights", loadedBytes, totalBytes });
  switch (options.device ?? "auto") {
    case "interpreter": {
      const precision = precisionOf(options);
      const passes = passesFor(precision, shapesOf(weights));
      const passed = new Map(
        [...graphs].map(([name, graph]) => [name, applyPasses(graph, passes)] as const),
      );
      const cache = cachePlanOf([...passed.values()], precision.kv);
      if (cache === undefined) throw new UnsupportedError("module", "the module uses no cache");
      const values = new Map<string, Float32Array>();
      const total = bytesOf(weights);
      for (let [at, loaded] = [0, 0]; at < weights.length; at++) {
        throwIfAborted(options.signal);
        onBytes(loaded, total);
        values.set(weights[at].name, await widen(weights[at]));
        loaded += bytesOf([weights[at]]);
      }
      return { device: new Interpreter(passed, cache, values), cache };
    }
    case "auto":
    case "wasm": {
      const { plan, probe } = planGraphs(graphs, weights, options);
      const threads = options.threads ?? availableParallelism();
      const device = await WasmModel.create(plan, weights, {
        threads,
        cacheTokens: options.cacheTokens ?? 0,
        revectorize: probe.revectorize,
        onBytes,
        signal: options.signal,
      });
      return { device, cache: plan.cache };
    }
  }
}

/** Bytes of the file that the weights are read from. */
const bytesOf = (weights: readonly WeightSource[]): number =>
  weights
    .flatMap(({ segments }) => segments)
    .reduce((sum, { format, rows, columns }) => sum + rows * formatBytes(format, columns), 0);

/** A checkpoint with everything decided that can be decided before weights are read. */
export interface Prepared extends AsyncDisposable {
  readonly checkpoint: Checkpoint;
  readonly config: MistralConfig;
  readonly module: MistralForCausalLM;
  readonly weights: readonly WeightSource[];
  /** Options for `compileModule` that follow from the config. */
  readonly compile: CompileModuleOptions;
  /** Most tokens of a sequence; Infinity where the window alone bounds the memory. */
  readonly context: number;
  readonly window: { readonly size: number; readonly sinks: number } | undefined;
  /** Most tokens that the cache must hold for one sequence: the context, or the window and one chunk. */
  readonly cacheTokens: number;
}

/** Opens a checkpoint, checks its config and its weights. Errors: InputError, UnsupportedError, with the file and the field. */
export async function prepare(path: string, options: LoadOptions = {}): Promise<Prepared> {
  checkOptions(options);
  options.onProgress?.({ phase: "open" });
  const checkpoint = await openCheckpoint(path);
  try {
    const { where, json } = checkpoint.config;
    const notice = options.onNotice ?? (() => {});
    const config = MistralConfig.parse(json, {
      where,
      overrides: overridesOf(options, json, notice),
      notice,
    });
    const module = new MistralForCausalLM(config);
    const weights = bindWeights(checkpoint, module, { headDim: config.head_dim });
    const { sliding_window_size: size, attention_sink_size: sinks, context_window_size } = config;
    const window = size > 0 ? { size, sinks } : undefined;
    if (options.sinks !== undefined && window === undefined)
      throw new InputError(
        "option",
        "sinks: the model has no sliding window; give one (--sliding-window)",
      );
    const context = context_window_size > 0 ? context_window_size : Infinity;
    const chunk = options.chunk ?? Math.min(defaults.chunk, config.prefill_chunk_size);
    const maxKeys = Math.min(context, window?.size ?? Infinity);
    return {
      checkpoint,
      config,
      module,
      weights,
      compile: { ...precise, ...options, chunk, maxKeys },
      context,
      window,
      cacheTokens: window ? Math.min(context, window.size + chunk + 32) : context,
      [Symbol.asyncDispose]: () => checkpoint[Symbol.asyncDispose](),
    };
  } catch (error) {
    await checkpoint[Symbol.asyncDispose]();
    throw error;
  }
}

/** What an engine needs of a model: the functions that it calls, and room for the cache. */
export const engineOptions = ({ compile, cacheTokens }: Prepared): CompileModuleOptions => ({
  ...compile,
  functions: ["embed", "batch_prefill"],
  cacheTokens,
});

/** The options as overrides of the config; a context of tens of thousands of tokens is not reserved unless asked for. */
function overridesOf(
  { context, slidingWindow, sinks, chunk }: LoadOptions,
  json: Readonly<Record<string, unknown>>,
  notice: (text: string) => void,
): Record<string, number> {
  const overrides: Record<string, number> = {};
  if (slidingWindow !== undefined) overrides.sliding_window_size = slidingWindow;
  if (sinks !== undefined) overrides.attention_sink_size = sinks;
  if (chunk !== undefined) overrides.prefill_chunk_size = chunk;
  if (context !== undefined) overrides.context_window_size = context;
  const whole = json.context_window_size ?? json.max_position_embeddings;
  const windowed = slidingWindow ?? json.sliding_window_size ?? json.sliding_window;
  const hasWindow = typeof windowed === "number" && windowed > 0;
  const isLong = typeof whole === "number" && whole > defaults.context;
  if (context === undefined && !hasWindow && isLong) {
    overrides.context_window_size = defaults.context;
    notice(
      `the context is ${defaults.context} tokens of the model's ${whole}; raise it with the option context`,
    );
  }
  return overrides;
}

/**
 * Loads a checkpoint (a GGUF or safetensors file, or a folder) and compiles it for the device at hand. Errors: InputError for
 * a file or option that is wrong, UnsupportedError for what is not computed, ResourceError where the memory does not suffice.
 */
export async function load(path: string, options: LoadOptions = {}): Promise<Engine> {
  await using prepared = await prepare(path, options);
  const { checkpoint, module, weights, compile: settings } = prepared;
  const model = await compileModule(module, weights, engineOptions(prepared));
  const chunk = settings.chunk ?? defaults.chunk;
  const cache = await createCache(model, prepared);
  const tokenizer = once(() => createTokenizer(checkpoint.tokenizer));
  return new Engine({
    model,
    cache,
    context: prepared.context,
    chunk,
    window: prepared.window,
    eos: once(() => {
      const { eos } = checkpoint.specialIds;
      return eos.length > 0 ? eos : tokenizer().eos;
    }),
    tokenizer,
    chatTemplate: once(() => chatTemplateOf(checkpoint, tokenizer())),
  });
}

/** A cache for one sequence; the model goes where it does not fit. */
async function createCache(model: CompiledModel, prepared: Prepared): Promise<PagedCache> {
  try {
    return await model.create_paged_kv_cache({
      max_batch_size: 1,
      max_total_seq_len: prepared.cacheTokens,
      support_sliding_window: prepared.window !== undefined,
    });
  } catch (error) {
    await model[Symbol.asyncDispose]();
    throw error;
  }
}

function chatTemplateOf({ chatTemplate, path }: Checkpoint, tokenizer: Tokenizer): ChatTemplate {
  if (chatTemplate === undefined)
    throw new InputError(
      "no-chat-template",
      `${path} has no chat template (tokenizer.chat_template in GGUF, chat_template.jinja or tokenizer_config.json beside safetensors); give a raw prompt`,
    );
  const piece = (id: number | undefined): string => (id === undefined ? "" : tokenizer.pieceOf(id));
  return new ChatTemplate(chatTemplate, {
    bos: piece(tokenizer.bos),
    eos: piece(tokenizer.eos[0]),
  });
}

/** Computes a value when it is first asked for. */
function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}
