import type { Node } from "../ir/graph.ts";
import { attend, ropeAppend } from "../ops/index.ts";
import { Tensor } from "./tensor.ts";

export interface AttentionOptions {
  readonly layer: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
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
  attention(qkv: Tensor, options: AttentionOptions): Tensor {
    const { layer, heads, kvHeads, headDim, ropeBase } = options;
    const shape = { layer, heads, kvHeads, headDim };
    const queries = ropeAppend(qkv.node, this.node, { ...shape, ropeBase, kv: "f32" });
    const scale = options.scale ?? 1 / Math.sqrt(headDim);
    return new Tensor(attend(queries, this.node, { ...shape, scale, kv: "f32" }));
  }
}
