import { InputError } from "./base/errors.ts";
import { checkNumber, type Limits } from "./base/limits.ts";
import type { Graph } from "./ir/graph.ts";

export const choices = {
  device: ["auto", "wasm", "interpreter"],
  kv: ["f32", "f16", "q8"],
  activations: ["i8", "i16"],
} as const;
export type DeviceName = (typeof choices.device)[number];

export interface CompileModuleOptions {
  readonly device?: DeviceName;
  /** Worker threads; as many as the machine runs at a time where absent. */
  readonly threads?: number;
  /** False keeps V8 from joining pairs of vector operations; where absent, a trial on this machine decides. */
  readonly revectorize?: boolean;
  /** How keys and values are stored. */
  readonly kv?: (typeof choices.kv)[number];
  /** How precisely the inputs of integer matmuls are rounded: one int8 digit, or two (exact to 16 bits). */
  readonly activations?: (typeof choices.activations)[number];
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

export interface LoadOptions extends Omit<
  CompileModuleOptions,
  "maxKeys" | "functions" | "cacheTokens"
> {
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
const mostTokens = 2 ** 31 - 1;

type LimitedName = "threads" | "chunk" | "context" | "slidingWindow" | "sinks";
export const limits: Readonly<Record<LimitedName, Limits>> = {
  threads: { least: 1, most: 256, whole: true },
  chunk: { least: 1, most: 8192, whole: true },
  context: { least: 1, most: mostTokens, whole: true },
  slidingWindow: { least: 1, most: mostTokens, whole: true },
  sinks: { least: 0, most: mostTokens, whole: true },
};

/** Errors: InputError with the option's name, what was expected, what came. */
export function checkOptions(options: LoadOptions): void {
  for (const name of Object.keys(limits) as LimitedName[])
    if (options[name] !== undefined) checkNumber(name, options[name], limits[name]);
  for (const name of Object.keys(choices) as (keyof typeof choices)[]) {
    const known: readonly string[] = choices[name];
    const value = options[name];
    if (value !== undefined && !known.includes(value))
      throw new InputError(
        "option",
        `${name}: expected ${known.join(" or ")}, got ${String(value)}`,
        { name, value },
      );
  }
}
