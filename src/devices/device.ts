import type { DimBindings } from "../ir/dim.ts";
import type { CacheRows, NumericArray } from "../ir/graph.ts";
import type { StepLayout } from "../ir/step-layout.ts";
import type { Step } from "../plan/plan.ts";
import type { FormatName } from "../quant/formats.ts";

/**
 * How a file orders the rows of a matrix. `interleaved`: row h·headDim + s·headDim/2 + i is stored as row h·headDim + 2·i + s
 * (GGUF and Mistral's own files turn adjacent pairs; the model turns halves).
 */
export type RowOrder =
  | { readonly kind: "plain" }
  | { readonly kind: "interleaved"; readonly headDim: number };

/** Row of the file that holds row `row` of the model. With headDim 4: rows 0 1 2 3 are stored as 0 2 1 3. */
export function storedRow(order: RowOrder, row: number): number {
  if (order.kind === "plain") return row;
  const { headDim } = order;
  const inHead = row % headDim;
  const half = headDim / 2;
  return row - inHead + 2 * (inHead % half) + Math.floor(inHead / half);
}

/** Rows of one checkpoint tensor that become rows of a model parameter. */
export interface WeightSegment {
  readonly format: FormatName;
  /** Rows of this tensor; a 1-d tensor is one row. */
  readonly rows: number;
  readonly columns: number;
  readonly rowOrder: RowOrder;
  /** Reads rows [start, start + count) as they lie in the file into `into`. */
  read(start: number, count: number, into: Uint8Array): Promise<void>;
}

/** A model parameter as the checkpoint holds it: segments one below the other. */
export interface WeightSource {
  readonly name: string;
  readonly segments: readonly WeightSegment[];
}

/** Storage of keys and values of one paged cache on a device. */
export interface CacheStorage {
  readonly pages: number;
  /** Of each layer what lies at some slots, in their order. */
  read(slots: Int32Array): Promise<readonly CacheRows[]>;
  dispose(): void;
}

/** One step: functions of the model in order, sharing inputs and outputs by name. */
export interface RunRequest {
  readonly functions: readonly string[];
  readonly sizes: DimBindings;
  readonly inputs: Readonly<Record<string, NumericArray>>;
  /** Name of the output that is given back, as the last function that has it leaves it. */
  readonly output: string;
  readonly cache?: { readonly storage: CacheStorage; readonly layout: StepLayout };
}

/** When one thread did one step of a function, in ms since 1970: came to it, could begin it, had done it. */
export interface StepTime {
  readonly thread: number;
  /** Of the plan. */
  readonly step: Step;
  readonly arrived: number;
  readonly began: number;
  readonly ended: number;
}

/** A model on a device: weights in place, functions ready to run. One run at a time. */
export interface DeviceModel extends AsyncDisposable {
  readonly threads: number;
  /** Called after each run with the times of its steps, where this device measures and somebody has set it. */
  onSteps?: ((times: readonly StepTime[]) => void) | undefined;
  createCache(pages: number): Promise<CacheStorage>;
  run(request: RunRequest): Promise<Float32Array>;
}
