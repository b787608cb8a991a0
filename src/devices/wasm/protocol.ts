import type { Plan, PlannedWeight } from "../../plan/plan.ts";
import type { RowOrder } from "../device.ts";
import type { MemoryMap } from "./memory-map.ts";
import type { Binding } from "./runner.ts";

/** What a worker is born with. */
export interface WorkerData {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly plan: Pick<Plan, "functions" | "weights">;
  readonly map: MemoryMap;
  readonly thread: number;
  readonly threads: number;
}

/** Rows of a file that lie in staging memory, to be put in their place. */
export interface PackJob {
  readonly weight: PlannedWeight;
  readonly firstRow: number;
  readonly rows: number;
  readonly rowOrder: RowOrder;
  /** Address of the bytes. */
  readonly staging: number;
}

export type Request =
  | {
      readonly kind: "run";
      readonly functions: readonly string[];
      readonly binding: Binding;
      readonly copies: CopyPages | undefined;
    }
  | { readonly kind: "pack"; readonly job: PackJob };
export interface CopyPages {
  readonly pairs: Int32Array;
  readonly layers: number;
  readonly pageBytes: number;
}

export type Reply =
  | { readonly kind: "ready" }
  | { readonly kind: "done" }
  | { readonly kind: "failed"; readonly message: string; readonly stack: string };
