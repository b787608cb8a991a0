import type { Attrs, Node, TensorType } from "./graph.ts";
import type { Dim } from "./dim.ts";
import type { StepLayout } from "./step-layout.ts";

export type NumericArray = Float32Array | Int32Array;

/** A value while it is being evaluated: numbers in row-major order. */
export interface Concrete {
  readonly data: NumericArray;
  readonly shape: readonly number[];
}

/** Keys and values of some slots of a layer, [slots, kvHeads × headDim] each. */
export type CacheRows = Readonly<Record<"keys" | "values", Float32Array>>;

/** The cache as plain evaluation sees it: all slots of each layer, and this step's layout. */
export interface CacheView {
  readonly pageTokens: number;
  readonly step: StepLayout;
  readonly layers: readonly CacheRows[];
}

/** Element `index` of the output is that of the input at offset + Σ index[axis] × strides[axis]. */
export interface View<D extends Dim> {
  readonly strides: readonly D[];
  readonly offset?: number;
}

export interface Evaluation {
  readonly inputs: readonly Concrete[];
  readonly attrs: Attrs;
  /** Shape of the output. */
  readonly shape: readonly number[];
  cache(): CacheView;
  input(name: string): NumericArray | undefined;
  param(name: string): Float32Array;
}

export type OpKind =
  | "source"
  | "elementwise"
  | "movement"
  | "reduce"
  | "contract"
  | "gather"
  | "cache"
  | "round";

/** An operation: the rule of its shape and its plain evaluation, which is the definition of correct. */
export interface Op {
  readonly name: string;
  readonly kind: OpKind;
  /** True where evaluating has effects, so that the node must not be removed or doubled. */
  readonly effect?: boolean;
  infer(node: Node): TensorType;
  /** Of a movement: where its values are found in the input. */
  view?(node: Node): View<Dim>;
  evaluate(call: Evaluation): NumericArray;
}
