import type { FormatName } from "../quant/formats.ts";
import type { PageShape } from "../quant/kv-page.ts";

/**
 * What the compiler hands to the wasm device: pure data. Addresses of weights, activations and scratch are offsets from
 * a base that the device chooses; sizes that change from step to step are named.
 */

/** Addresses of words that all threads share: of the barrier two, and the next number that a thread may take. */
export const controlWords = { barrier: 0, tickets: 64, end: 1024 } as const;

/** Up to a multiple of 64, where whatever has an address begins. */
export const align = (bytes: number): number => Math.ceil(bytes / 64) * 64;

/** A number, or a symbolic size times a factor. */
export type RowCount =
  | { readonly kind: "constant"; readonly value: number }
  | { readonly kind: "size"; readonly name: string; readonly times: number };

/** An argument of a program call, known when the step runs. All are i32. */
export type Argument =
  | RowCount
  /** Address of a buffer of the function, of an input/output slot, or of a weight, plus an offset in bytes. */
  | { readonly kind: "buffer"; readonly buffer: number; readonly offset: number }
  | { readonly kind: "weight"; readonly weight: number }
  /** Address in the thread's own scratch, which keeps what is in it until the end of the step. */
  | { readonly kind: "scratch"; readonly offset: number }
  /** Address of the step tables or of the pages of one layer of the cache in use. */
  | { readonly kind: "table"; readonly table: TableName }
  | { readonly kind: "pages"; readonly layer: number };

/** Tables that the host fills for each step (see ir/step-layout.ts). */
export type TableName = (typeof tableNames)[number];
export const tableNames = [
  "slots",
  "positions",
  "sinkEnds",
  "windowStarts",
  "sinkTables",
  "windowTables",
  "pageTable",
  "windowAngles",
  "sinkAngles",
] as const;

/** One call of a program on every thread; programs take (arguments…, thread, threads, scratch) and share the work themselves. */
export interface Call {
  readonly program: string;
  readonly args: readonly Argument[];
}

/** Calls that each thread makes in order, beside the others; which list runs depends on the number of rows. */
export interface Step {
  readonly name: string;
  /** All threads wait for each other before this step, or before the next that has calls. */
  readonly barrier: boolean;
  /** Variants in order of `maxRows`; the first that holds the step's rows runs. */
  readonly variants: readonly { readonly maxRows: number; readonly calls: readonly Call[] }[];
  /** Which size counts as rows. */
  readonly rows: RowCount;
}

/** Bytes of a function's memory: `place` is an offset in the arena, or the name of an input/output slot. */
export interface PlannedBuffer {
  readonly name: string;
  readonly bytes: number;
  readonly place: { readonly kind: "arena"; readonly offset: number } | { readonly kind: "slot" };
}

export interface PlannedFunction {
  readonly name: string;
  readonly buffers: readonly PlannedBuffer[];
  readonly steps: readonly Step[];
  /** What the caller reads of the slots, with rows and columns. */
  readonly outputs: readonly { name: string; elements: RowCount; width: number }[];
  readonly arenaBytes: number;
}

/** A weight segment as it lies in memory. */
export interface PlannedWeight {
  readonly param: string;
  readonly segment: number;
  readonly format: FormatName;
  /** `packed`: quant/compute-layout.ts; `plain`: f32 rows, all segments one after the other. */
  readonly layout: "packed" | "plain";
  /** The program that packs a row (kernels/pack.ts). */
  readonly packer?: string;
  readonly rows: number;
  readonly columns: number;
  readonly bytes: number;
  /** Of the weights of its memory. */
  readonly offset: number;
  /** 0: the one that everything else lies in too. */
  readonly memory: number;
}

export interface CachePlan extends PageShape {
  readonly layers: number;
  readonly pageTokens: number;
  /** Bytes of one page of one layer, keys and values of all heads. */
  readonly pageBytes: number;
  readonly ropeBase: number;
  /** Most rows of a step. */
  readonly maxRows: number;
}

export interface Plan {
  readonly functions: readonly PlannedFunction[];
  readonly weights: readonly PlannedWeight[];
  /** Of each memory. */
  readonly weightBytes: readonly number[];
  readonly slots: readonly { readonly name: string; readonly bytes: number }[];
  readonly cache: CachePlan | undefined;
  /** Names of the programs, in the order of the module. */
  readonly programs: readonly string[];
  /** Bytes of private scratch each thread needs. */
  readonly scratchBytes: number;
  /** The WebAssembly module that holds all programs. */
  readonly module: Uint8Array<ArrayBuffer>;
}
