import { found, InternalError } from "../base/errors.ts";
import type { WasmFeatures } from "../codegen/wasm/features.ts";
import type { WasmModule } from "../codegen/wasm/module.ts";
import { maxOf, product, type Dim } from "../ir/dim.ts";
import type { Node } from "../ir/graph.ts";
import type { Argument, PlannedWeight, RowCount, Step } from "../plan/plan.ts";

/** A kernel's meaning found in a graph: what stands at its placeholders and captures, and the node it computes. */
export interface Use {
  readonly root: Node;
  readonly inputs: ReadonlyMap<string, Node>;
  readonly attrs: ReadonlyMap<string, number | string>;
}

/** Rows of a parameter that lie in one layout. */
export interface WeightPart extends Pick<PlannedWeight, "format" | "rows" | "columns" | "memory"> {
  readonly argument: Argument;
  readonly firstRow: number;
}

/** Steps that a kernel becomes: as in the plan, without barriers, which follow from reads and writes. */
export type StepDraft = Omit<Step, "barrier">;

/** What a kernel may ask while it is lowered. */
export interface Lowering {
  readonly features: WasmFeatures;
  /** Most keys that one row can see. */
  readonly maxKeys: number;
  /** Address of a computed value or input. */
  address(node: Node): Argument;
  /** The packed parts of a parameter. */
  weight(param: Node): readonly WeightPart[];
  /** A buffer for the steps of this kernel only. */
  temporary(name: string, bytes: number): Argument;
  /** A program of these steps uses `forTickets`: they begin at a barrier. */
  takeTurns(): void;
  /** Adds a program once; returns its name. */
  program(name: string, emit: (module: WasmModule, name: string) => void): string;
  /** Makes sure that every thread has so much scratch. */
  scratch(bytes: number): void;
}

export interface Kernel {
  /** The pattern, in plain ops on placeholders and captures. */
  readonly meaning: Node;
  /** Whether it takes this use; everything where absent. */
  accepts?(use: Use, model: ModelFacts): boolean;
  lower(use: Use, at: Lowering): StepDraft[];
}

/** What a kernel may know of the model when it is asked whether it takes a use. */
export interface ModelFacts {
  /** Whether a parameter can be had packed for matmuls. */
  isPacked(param: Node): boolean;
  isInteger(param: Node): boolean;
  /** Rows of its parts. */
  partRows(param: Node): readonly number[];
}

/** All axes but the last `inner` as a row count. */
export function rowsOf(node: Node, inner = 1): RowCount {
  const dim = rowDim(node, inner);
  return typeof dim === "number"
    ? { kind: "constant", value: dim }
    : { kind: "size", name: dim.name, times: dim.times };
}
const rowDim = (node: Node, inner = 1): Dim =>
  product(node.shape.slice(0, node.shape.length - inner));
export const maxRowsOf = (node: Node): number => maxOf(rowDim(node));

export function columnsOf(node: Node): number {
  const last = node.shape.at(-1);
  if (typeof last !== "number")
    throw new InternalError("columns", `${node.op.name}: the last axis must have a fixed size`);
  return last;
}

export const inputOf = (use: Use, name: string): Node =>
  found(use.inputs.get(name), "kernel-input", `the pattern has no input ${name}`);
export const attrOf = (use: Use, name: string): number => Number(use.attrs.get(name));

export const offsetArg = (argument: Argument, bytes: number): Argument => {
  if (argument.kind !== "buffer") throw new InternalError("offset", "only buffers have offsets");
  return { ...argument, offset: argument.offset + bytes };
};

/** What the names of programs say of the memory that their weights lie in. */
export const markOf = (memory: number): string => (memory === 0 ? "" : ` @${memory}`);
