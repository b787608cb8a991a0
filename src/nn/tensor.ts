import { product, type Shape } from "../ir/dim.ts";
import type { Node } from "../ir/graph.ts";
import * as ops from "../ops/index.ts";

type Operand = Tensor | number;
const nodeOf = (value: Operand): Node | number => (value instanceof Tensor ? value.node : value);

/** A symbolic tensor of a module being traced: a handle on a graph node with the operations one writes models in. */
export class Tensor {
  readonly node: Node;

  constructor(node: Node) {
    this.node = node;
    void node.type; // a wrong shape is reported where it was written
  }

  get shape(): Shape {
    return this.node.shape;
  }

  add = (other: Operand): Tensor => new Tensor(ops.add(this.node, nodeOf(other)));
  sub = (other: Operand): Tensor => new Tensor(ops.sub(this.node, nodeOf(other)));
  mul = (other: Operand): Tensor => new Tensor(ops.mul(this.node, nodeOf(other)));
  div = (other: Operand): Tensor => new Tensor(ops.div(this.node, nodeOf(other)));
  maximum = (other: Operand): Tensor => new Tensor(ops.maximum(this.node, nodeOf(other)));
  minimum = (other: Operand): Tensor => new Tensor(ops.minimum(this.node, nodeOf(other)));
  neg = (): Tensor => new Tensor(ops.neg(this.node));
  abs = (): Tensor => new Tensor(ops.abs(this.node));
  square = (): Tensor => new Tensor(ops.square(this.node));
  sqrt = (): Tensor => new Tensor(ops.sqrt(this.node));
  rsqrt = (): Tensor => new Tensor(ops.rsqrt(this.node));
  exp = (): Tensor => new Tensor(ops.exp(this.node));
  tanh = (): Tensor => new Tensor(ops.tanh(this.node));
  sigmoid = (): Tensor => new Tensor(ops.sigmoid(this.node));
  silu = (): Tensor => new Tensor(ops.silu(this.node));
  relu = (): Tensor => new Tensor(ops.relu(this.node));

  /** Reductions of the last axis, which stays with size 1. */
  sum = (): Tensor => new Tensor(ops.sum(this.node));
  mean = (): Tensor => new Tensor(ops.mean(this.node));
  max = (): Tensor => new Tensor(ops.max(this.node));

  reshape = (shape: Shape): Tensor => new Tensor(ops.reshape(this.node, shape));
  permute = (order: readonly number[]): Tensor => new Tensor(ops.permute(this.node, order));
  /** The last axis in equal parts. */
  split = (parts: number): Tensor[] =>
    Array.from({ length: parts }, (_, i) => new Tensor(ops.chunk(this.node, parts, i)));
  /** Columns start … end of the last axis. */
  slice = (start: number, end: number): Tensor => new Tensor(ops.slice(this.node, start, end));
  /** Rows of this table [n, …] by index [m] → [m, …]. */
  take = (rows: Tensor): Tensor => new Tensor(ops.take(this.node, rows.node));
  /** The last row of [rows, …] → [1, …]. */
  lastRow = (): Tensor => new Tensor(ops.lastRow(this.node));
  /** All axes but the last as one: [a, b, columns] → [a·b, columns]. */
  rows = (): Tensor =>
    this.reshape([product(this.shape.slice(0, -1)), this.shape[this.shape.length - 1]]);
  /** [rows, in] by weight [out, in] → [rows, out]. */
  linear = (weight: Tensor): Tensor => new Tensor(ops.linear(this.node, weight.node));
}

type AttentionShape = Readonly<Record<"layer" | "heads" | "kvHeads" | "headDim", number>>;
export interface AttentionOptions extends AttentionShape {
  readonly ropeBase: number;
  /** Factor of the scores; 1 / √headDim where absent. */
  readonly scale?: number;
}

/** The paged KV cache of a module being traced. */
export class PagedKVCache {
  readonly node: Node;

  constructor(node: Node) {
    this.node = node;
  }

  /**
   * Grouped-query attention with rotary positions over the cache: qkv [rows, (heads + 2·kvHeads) × headDim] →
   * [rows, heads × headDim]. Keys and values of the rows are stored first, so a row sees itself.
   */
  attention(qkv: Tensor, { ropeBase, scale, ...shape }: AttentionOptions): Tensor {
    const queries = ops.ropeAppend(qkv.node, this.node, { ...shape, ropeBase, kv: "f32" });
    const factor = scale ?? 1 / Math.sqrt(shape.headDim);
    return new Tensor(ops.attend(queries, this.node, { ...shape, scale: factor, kv: "f32" }));
  }
}

export const concat = (parts: readonly Tensor[]): Tensor =>
  new Tensor(ops.concat(parts.map((part) => part.node)));
