import { product, type Shape } from "../ir/dim.ts";
import { Node } from "../ir/graph.ts";
import * as ops from "../ops/index.ts";

type Operand = Tensor | number;

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

  add(other: Operand): Tensor {
    return new Tensor(ops.add(this.node, nodeOf(other)));
  }
  sub(other: Operand): Tensor {
    return new Tensor(ops.sub(this.node, nodeOf(other)));
  }
  mul(other: Operand): Tensor {
    return new Tensor(ops.mul(this.node, nodeOf(other)));
  }
  div(other: Operand): Tensor {
    return new Tensor(ops.div(this.node, nodeOf(other)));
  }
  maximum(other: Operand): Tensor {
    return new Tensor(ops.maximum(this.node, nodeOf(other)));
  }
  minimum(other: Operand): Tensor {
    return new Tensor(ops.minimum(this.node, nodeOf(other)));
  }
  neg(): Tensor {
    return new Tensor(ops.neg(this.node));
  }
  abs(): Tensor {
    return new Tensor(ops.abs(this.node));
  }
  square(): Tensor {
    return new Tensor(ops.square(this.node));
  }
  sqrt(): Tensor {
    return new Tensor(ops.sqrt(this.node));
  }
  rsqrt(): Tensor {
    return new Tensor(ops.rsqrt(this.node));
  }
  exp(): Tensor {
    return new Tensor(ops.exp(this.node));
  }
  tanh(): Tensor {
    return new Tensor(ops.tanh(this.node));
  }
  sigmoid(): Tensor {
    return new Tensor(ops.sigmoid(this.node));
  }
  silu(): Tensor {
    return new Tensor(ops.silu(this.node));
  }
  relu(): Tensor {
    return new Tensor(ops.relu(this.node));
  }
  /** Reductions of the last axis, which stays with size 1. */
  sum(): Tensor {
    return new Tensor(ops.sum(this.node));
  }
  mean(): Tensor {
    return new Tensor(ops.mean(this.node));
  }
  max(): Tensor {
    return new Tensor(ops.max(this.node));
  }
  reshape(shape: Shape): Tensor {
    return new Tensor(ops.reshape(this.node, shape));
  }
  permute(order: readonly number[]): Tensor {
    return new Tensor(ops.permute(this.node, order));
  }
  /** The last axis in equal parts. */
  split(parts: number): Tensor[] {
    return Array.from({ length: parts }, (_, i) => new Tensor(ops.chunk(this.node, parts, i)));
  }
  /** Columns start … end of the last axis. */
  slice(start: number, end: number): Tensor {
    return new Tensor(ops.slice(this.node, start, end));
  }
  /** Rows of this table [n, …] by index [m] → [m, …]. */
  take(rows: Tensor): Tensor {
    return new Tensor(ops.take(this.node, rows.node));
  }
  /** The last row of [rows, …] → [1, …]. */
  lastRow(): Tensor {
    return new Tensor(ops.lastRow(this.node));
  }
  /** [rows, in] by weight [out, in] → [rows, out]. */
  linear(weight: Tensor): Tensor {
    return new Tensor(ops.linear(this.node, weight.node));
  }

  /** All axes but the last as one: [a, b, columns] → [a·b, columns]. */
  rows(): Tensor {
    return this.reshape([product(this.shape.slice(0, -1)), this.shape[this.shape.length - 1]]);
  }
}

const nodeOf = (value: Operand): Node | number => (value instanceof Tensor ? value.node : value);

export const concat = (parts: readonly Tensor[]): Tensor =>
  new Tensor(ops.concat(parts.map((part) => part.node)));
