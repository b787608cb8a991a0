import { InternalError } from "../base/errors.ts";
import type { Dim, Shape } from "./dim.ts";
import type { StepLayout } from "./step-layout.ts";

/** `cache` is the paged KV cache: a value with effects, not numbers. */
export type DType = "f32" | "i32" | "cache";
export type TensorType = { readonly dtype: DType; readonly shape: Shape };

/** Stands in a pattern for an attribute that may have any value. */
export class Capture {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}
export type Attr = number | string | boolean | readonly Dim[] | Capture;
export type Attrs = Readonly<Record<string, Attr>>;

export type NumericArray = Float32Array | Int32Array;

/** A value while it is being evaluated: numbers in row-major order. */
export type Concrete = { readonly data: NumericArray; readonly shape: readonly number[] };

/** Keys and values of some slots of a layer, [slots, kvHeads × headDim] each. */
export type CacheRows = Readonly<Record<"keys" | "values", Float32Array>>;

/** The cache as plain evaluation sees it: all slots of each layer, and this step's layout. */
export interface CacheView {
  readonly pageTokens: number;
  readonly step: StepLayout;
  readonly layers: readonly CacheRows[];
}

/** Element `index` of the output is that of the input at offset + Σ index[axis] × strides[axis]. */
export type View<D extends Dim> = { readonly strides: readonly D[]; readonly offset?: number };

export interface Evaluation {
  readonly inputs: readonly Concrete[];
  readonly attrs: Attrs;
  /** Shape of the output. */
  readonly shape: readonly number[];
  cache(): CacheView;
  input(name: string): NumericArray | undefined;
  param(name: string): Float32Array;
}

/** Kinds that compute with f32, each row of the result from the same row of the inputs. */
const arithmetic = ["elementwise", "reduce", "contract", "round"] as const;
export type OpKind = (typeof arithmetic)[number] | "source" | "movement" | "gather" | "cache";
export const isArithmetic = ({ kind }: Op): boolean =>
  (arithmetic as readonly OpKind[]).includes(kind);

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

/** One operation applied to values. Nodes are immutable; a graph is what its outputs reach. */
export class Node {
  readonly op: Op;
  readonly inputs: readonly Node[];
  readonly attrs: Attrs;
  #type: TensorType | undefined;

  constructor(op: Op, inputs: readonly Node[], attrs: Attrs = {}, type?: TensorType) {
    this.op = op;
    this.inputs = inputs;
    this.attrs = attrs;
    this.#type = type;
  }

  /** Inferred on demand, so that patterns, whose inputs have no type, are nodes too. */
  get type(): TensorType {
    return (this.#type ??= this.#infer());
  }

  #infer(): TensorType {
    const { op, inputs } = this;
    const wrong = isArithmetic(op) && inputs.find(({ type }) => type.dtype !== "f32");
    if (!wrong) return op.infer(this);
    throw new InternalError("dtype", `${op.name}: expected f32, got ${wrong.type.dtype}`);
  }

  get shape(): Shape {
    return this.type.shape;
  }

  /** An attribute that the operation has as a number, in every node that is no pattern. */
  number(attr: string): number {
    return this.attrs[attr] as number;
  }

  string(attr: string): string {
    return this.attrs[attr] as string;
  }
}

/** A function of the model: named inputs to named outputs. `nodes` is in order of computation. */
export interface Graph {
  readonly name: string;
  readonly inputs: readonly Node[];
  readonly outputs: readonly { readonly name: string; readonly node: Node }[];
  readonly nodes: readonly Node[];
}

/** Builds a graph from its outputs: each node after its inputs, inputs of the function first, in the given order. */
export function graphOf(name: string, inputs: readonly Node[], outputs: Graph["outputs"]): Graph {
  const nodes = new Set<Node>(inputs);
  const visit = (node: Node): void => {
    if (nodes.has(node)) return;
    node.inputs.forEach(visit);
    nodes.add(node);
  };
  for (const { node } of outputs) visit(node);
  return { name, inputs, outputs, nodes: [...nodes] };
}

/** How many nodes and outputs read each node. */
export function countUses({ nodes, outputs }: Graph): Map<Node, number> {
  const uses = new Map<Node, number>();
  for (const node of [...nodes.flatMap(({ inputs }) => inputs), ...outputs.map(({ node }) => node)])
    uses.set(node, (uses.get(node) ?? 0) + 1);
  return uses;
}

/** Rebuilds the graph bottom-up; `change` sees each node on its new inputs, and before, and returns what stands in its place. */
export function rewrite(graph: Graph, change: (node: Node, before: Node) => Node): Graph {
  const changed = new Map<Node, Node>();
  const of = (node: Node): Node => changed.get(node) ?? node;
  for (const node of graph.nodes) {
    const inputs = node.inputs.map(of);
    const isSame = inputs.every((input, at) => input === node.inputs[at]);
    changed.set(node, change(isSame ? node : new Node(node.op, inputs, node.attrs), node));
  }
  const outputs = graph.outputs.map(({ name, node }) => ({ name, node: of(node) }));
  return graphOf(graph.name, graph.inputs, outputs);
}
