import { refusal } from "./base/errors.ts";
import { checkNumber, type Limits } from "./base/limits.ts";
import type { Graph } from "./ir/graph.ts";
import { mostTokens } from "./runtime/window.ts";

export const choices = {
  device: ["auto", "wasm", "interpreter"],
  /** How keys and values are stored. */
  kv: ["f32", "f16", "q8"],
  /** How precisely the inputs of integer matmuls are rounded: one int8 digit, or two (exact to 16 bits). */
  activations: ["i8", "i16"],
  /** Whether V8 may join pairs of vector operations: `auto` tries it on this machine. */
  revectorize: ["auto", "off"],
} as const;
type Choices = { readonly [Name in keyof typeof choices]?: (typeof choices)[Name][number] };
export type DeviceName = Required<Choices>["device"];

export interface CompileModuleOptions extends Choices {
  /** Worker threads; as many as the machine runs at a time where absent. */
  readonly threads?: number;
  /** Most rows of a step. */
  readonly chunk?: number;
  /** Most keys that a row sees: the context, or the window. */
  readonly maxKeys?: number;
  /** Names of the functions to compile; all of the module's spec where absent. */
  readonly functions?: readonly string[];
  /** Tokens of cache that must fit beside the weights, checked before anything is loaded. */
  readonly cacheTokens?: number;
  readonly onProgress?: (progress: Progress) => void;
  /** Called with the graph after each pass. */
  readonly onPass?: (graph: Graph, pass: string) => void;
  readonly signal?: AbortSignal;
}

type Derived = "maxKeys" | "functions" | "cacheTokens";
export interface LoadOptions extends Omit<CompileModuleOptions, Derived> {
  /** Most tokens of a sequence. */
  readonly context?: number;
  readonly slidingWindow?: number;
  readonly sinks?: number;
  /** Told of fallbacks and of keys that were not understood. */
  readonly onNotice?: (text: string) => void;
}

export type Progress =
  | { readonly phase: "open" | "compile" | "ready" }
  | { readonly phase: "weights"; readonly loadedBytes: number; readonly totalBytes: number };

/** Positions are i32 in the tables of a step. */
const tokens: Limits = { least: 1, most: mostTokens, whole: true };
type LimitedName = "threads" | "chunk" | "context" | "slidingWindow" | "sinks";
export const limits: Readonly<Record<LimitedName, Limits>> = {
  threads: { least: 1, most: 256, whole: true },
  chunk: { least: 1, most: 8192, whole: true },
  context: tokens,
  slidingWindow: tokens,
  sinks: { ...tokens, least: 0 },
};

/** Errors: InputError with the option's name, what was expected, what came. */
export function checkOptions(options: LoadOptions): void {
  const refuse = (name: string, expected: string, value: unknown): never =>
    refusal("option", name, { name, value })(`expected ${expected}, got ${String(value)}`);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    if (Object.hasOwn(limits, name)) checkNumber(name, value, limits[name as LimitedName]);
    const known: readonly unknown[] = choices[name as keyof typeof choices] ?? [value];
    if (!known.includes(value)) refuse(name, known.join(" or "), value);
  }
  const { device, threads } = options;
  if (device === "interpreter" && threads !== undefined)
    refuse("threads", "none with the interpreter, which has one thread (leave it out)", threads);
}
