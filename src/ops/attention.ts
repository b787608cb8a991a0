import { f16Table, numberToF16 } from "../base/half.ts";
import { InternalError } from "../base/errors.ts";
import { showShape } from "../ir/dim.ts";
import { Capture, Node, type Attrs } from "../ir/graph.ts";
import type { CacheView, Evaluation, Op } from "../ir/op.ts";
import { kvGroup, type KvType } from "../quant/kv-page.ts";
import { roundGroup } from "./linear.ts";
import { RopeTable, rotate } from "./rope.ts";

export interface AttentionShape {
  readonly layer: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}
type Captured<T> = { readonly [Key in keyof T]: T[Key] | Capture };

const shapeOf = (attrs: Attrs): AttentionShape => ({
  layer: Number(attrs.layer),
  heads: Number(attrs.heads),
  kvHeads: Number(attrs.kvHeads),
  headDim: Number(attrs.headDim),
});

/** The values of one head as the cache gives them back. */
function roundKv(kv: KvType, head: Float32Array): void {
  switch (kv) {
    case "f32":
      return;
    case "f16":
      head.forEach((value, at) => (head[at] = f16Table[numberToF16(value)]));
      return;
    case "q8":
      for (let at = 0; at < head.length; at += kvGroup) {
        const group = head.subarray(at, at + kvGroup);
        roundGroup(group, group, 127);
      }
      return;
    default:
      return kv satisfies never;
  }
}

function evaluateRopeAppend({ inputs: [qkv], attrs, cache }: Evaluation): Float32Array {
  const { layer, heads, kvHeads, headDim } = shapeOf(attrs);
  const { step, keys, values } = bound(cache());
  const rows = step.rows;
  const width = (heads + 2 * kvHeads) * headDim;
  const data = qkv.data as Float32Array;
  const table = new RopeTable(Number(attrs.ropeBase), headDim);
  const window = new Float32Array(rows * headDim);
  const sinks = new Float32Array(rows * headDim);
  table.fill(step.positions, window);
  table.fill(step.sinkPositions, sinks);
  const queries = new Float32Array(rows * 2 * heads * headDim);
  for (let row = 0; row < rows; row++) {
    const head = (index: number): Float32Array =>
      data.subarray(row * width + index * headDim, row * width + (index + 1) * headDim);
    for (let h = 0; h < heads; h++) {
      const to = (row * 2 * heads + h) * headDim;
      rotate(head(h), window, row * headDim, queries.subarray(to, to + headDim));
      const second = to + heads * headDim;
      rotate(head(h), sinks, row * headDim, queries.subarray(second, second + headDim));
    }
    for (let h = 0; h < kvHeads; h++) {
      const at = (step.slots[row] * kvHeads + h) * headDim;
      const key = keys(layer).subarray(at, at + headDim);
      const value = values(layer).subarray(at, at + headDim);
      rotate(head(heads + h), window, row * headDim, key);
      value.set(head(heads + kvHeads + h));
      roundKv(attrs.kv as KvType, key);
      roundKv(attrs.kv as KvType, value);
    }
  }
  return queries;
}

const bound = (cache: CacheView): CacheView => ({
  pageTokens: cache.pageTokens,
  step: cache.step,
  keys: (layer) => cache.keys(layer),
  values: (layer) => cache.values(layer),
});

const ropeAppendOp: Op = {
  name: "rope_append",
  kind: "cache",
  effect: true,
  infer: ([qkv, cache], attrs) => {
    if (cache.dtype !== "cache") throw new InternalError("dtype", "rope_append needs a cache");
    const { heads, kvHeads, headDim } = shapeOf(attrs);
    const width = (heads + 2 * kvHeads) * headDim;
    if (qkv.shape.at(-1) !== width || heads % kvHeads !== 0 || headDim % 2 !== 0)
      throw new InternalError(
        "shape",
        `rope_append of ${showShape(qkv.shape)}: expected ${heads} + 2 × ${kvHeads} heads of ${headDim}, an even number`,
      );
    return { dtype: "f32", shape: [...qkv.shape.slice(0, -1), 2, heads * headDim] };
  },
  evaluate: evaluateRopeAppend,
};

/** Slot of an absolute position as `row` of the step sees it. */
function slotSeen({ step, pageTokens }: CacheView, row: number, position: number): number {
  const page = Math.floor(position / pageTokens);
  const sink = position < step.sinkEnds[row];
  const table = sink ? step.sinkTables[row] : step.windowTables[row];
  return step.pageTable[table + page] * pageTokens + (position % pageTokens);
}

/** Positions that `row` sees, in order. */
function* seen({ step }: CacheView, row: number): Generator<number> {
  for (let j = 0; j < step.sinkEnds[row]; j++) yield j;
  const start = Math.max(step.windowStarts[row], step.sinkEnds[row]);
  for (let j = start; j <= step.positions[row]; j++) yield j;
}

function evaluateAttend({ inputs: [queries], attrs, cache }: Evaluation): Float32Array {
  const { layer, heads, kvHeads, headDim } = shapeOf(attrs);
  const view = cache();
  const { step } = view;
  const [keys, values] = [view.keys(layer), view.values(layer)];
  const out = new Float32Array(step.rows * heads * headDim);
  for (let row = 0; row < step.rows; row++) {
    const positions = [...seen(view, row)];
    const slots = positions.map((position) => slotSeen(view, row, position));
    for (let h = 0; h < heads; h++) {
      const kvHead = Math.floor((h * kvHeads) / heads);
      const at = (slot: number): number => (slot * kvHeads + kvHead) * headDim;
      const scores = positions.map((position, index) => {
        const turned = position < step.sinkEnds[row] ? 1 : 0;
        const q = ((row * 2 + turned) * heads + h) * headDim;
        let dot = 0;
        for (let d = 0; d < headDim; d++) dot += queries.data[q + d] * keys[at(slots[index]) + d];
        return dot * Number(attrs.scale);
      });
      const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
      const weights = scores.map((score) => Math.exp(score - largest));
      const total = weights.reduce((a, b) => a + b, 0);
      for (let d = 0; d < headDim; d++) {
        let sum = 0;
        for (let k = 0; k < slots.length; k++) sum += weights[k] * values[at(slots[k]) + d];
        out[(row * heads + h) * headDim + d] = sum / total;
      }
    }
  }
  return out;
}

const attendOp: Op = {
  name: "attend",
  kind: "cache",
  infer: ([queries], attrs) => {
    const { heads, headDim } = shapeOf(attrs);
    return { dtype: "f32", shape: [...queries.shape.slice(0, -2), heads * headDim] };
  },
  evaluate: evaluateAttend,
};

export type RopeAppendAttrs = AttentionShape & { readonly ropeBase: number; readonly kv: KvType };

/**
 * Turns queries and keys, and stores keys and values in the cache. qkv [rows, (heads + 2·kvHeads) × headDim] →
 * queries [rows, 2, heads × headDim]: as window keys are seen, and as sink keys are seen (DESIGN §3).
 */
export const ropeAppend = (qkv: Node, cache: Node, attrs: Captured<RopeAppendAttrs>): Node =>
  new Node(ropeAppendOp, [qkv, cache], { ...attrs });

export type AttendAttrs = AttentionShape & { readonly scale: number; readonly kv: KvType };

/** Softmax attention of each row over the keys it sees: queries [rows, 2, heads × headDim] → [rows, heads × headDim]. */
export const attend = (queries: Node, cache: Node, attrs: Captured<AttendAttrs>): Node =>
  new Node(attendOp, [queries, cache], { ...attrs });

export const isRopeAppend = (node: Node): boolean => node.op === ropeAppendOp;
export const isCacheOp = (node: Node): boolean => node.op.kind === "cache";
