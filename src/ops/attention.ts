import { f16Table, numberToF16 } from "../base/half.ts";
import { InternalError } from "../base/errors.ts";
import { showShape } from "../ir/dim.ts";
import { Node, type Attrs, type Capture } from "../ir/graph.ts";
import type { CacheView, Evaluation, Op } from "../ir/graph.ts";
import { kvGroup, type KvType } from "../quant/kv-page.ts";
import { largestDigit, roundGroups } from "./linear.ts";
import { ropeAngles, rotate } from "./rope.ts";

/** What both operations of attention must know, and the number of its own that each has. */
type AttentionAttrs<Own extends string> = {
  readonly [Key in "layer" | "heads" | "kvHeads" | "headDim" | Own]: number | Capture;
} & { readonly kv: KvType | Capture };

/** The attributes of a node that is no pattern. */
const numbers = (attrs: Attrs) => attrs as Readonly<Record<string, number>>;

/** One head [headDim] as the cache gives it back. */
const storedAs: Readonly<Record<KvType, (head: Float32Array) => Float32Array>> = {
  f32: (head) => head,
  f16: (head) => head.map((value) => f16Table[numberToF16(value)]),
  q8: (head) => roundGroups(head, kvGroup, largestDigit[1]),
};

function evaluateRopeAppend({ inputs: [qkv], attrs, cache }: Evaluation): Float32Array {
  const { layer, heads, kvHeads, headDim, ropeBase } = numbers(attrs);
  const view = cache();
  const { keys, values } = view.layers[layer];
  const { rows, slots, positions, sinkPositions } = view.step;
  const stored = storedAs[attrs.kv as KvType];
  const [window, sinks] = [positions, sinkPositions].map(ropeAngles(ropeBase, headDim));
  const queries = new Float32Array(rows * 2 * heads * headDim);
  for (let row = 0; row < rows; row++) {
    const head = (index: number): Float32Array => {
      const at = (row * (heads + 2 * kvHeads) + index) * headDim;
      return (qkv.data as Float32Array).subarray(at, at + headDim);
    };
    const turned = (index: number, angles: Float32Array): Float32Array =>
      rotate(head(index), angles, row * headDim);
    for (let h = 0; h < heads; h++) {
      queries.set(turned(h, window), (row * 2 * heads + h) * headDim);
      queries.set(turned(h, sinks), ((row * 2 + 1) * heads + h) * headDim);
    }
    for (let h = 0; h < kvHeads; h++) {
      const at = (slots[row] * kvHeads + h) * headDim;
      keys.set(stored(turned(heads + h, window)), at);
      values.set(stored(head(heads + kvHeads + h)), at);
    }
  }
  return queries;
}

const ropeAppendOp: Op = {
  name: "rope_append",
  kind: "cache",
  effect: true,
  infer: ({ inputs: [qkv, cache], attrs }) => {
    if (cache.type.dtype !== "cache") throw new InternalError("dtype", "rope_append needs a cache");
    const { heads, kvHeads, headDim } = numbers(attrs);
    const width = (heads + 2 * kvHeads) * headDim;
    if (qkv.shape.at(-1) === width && heads % kvHeads === 0 && headDim % 2 === 0)
      return { dtype: "f32", shape: [...qkv.shape.slice(0, -1), 2, heads * headDim] };
    const expected = `expected ${heads} + 2 × ${kvHeads} heads of ${headDim}, an even number`;
    throw new InternalError("shape", `rope_append of ${showShape(qkv.shape)}: ${expected}`);
  },
  evaluate: evaluateRopeAppend,
};

/** Slots of the keys that `row` of the step sees, in order of position: first those that it sees as sinks. */
function slotsSeen({ step, pageTokens }: CacheView, row: number): number[] {
  const slots: number[] = [];
  for (let j = 0; j <= step.positions[row]; j++) {
    const isSink = j < step.sinkEnds[row];
    if (!isSink && j < step.windowStarts[row]) continue;
    const table = isSink ? step.sinkTables[row] : step.windowTables[row];
    const page = step.pageTable[table + Math.floor(j / pageTokens)];
    slots.push(page * pageTokens + (j % pageTokens));
  }
  return slots;
}

function evaluateAttend({ inputs: [queries], attrs, cache }: Evaluation): Float32Array {
  const { layer, heads, kvHeads, headDim, scale } = numbers(attrs);
  const view = cache();
  const { rows, sinkEnds } = view.step;
  const { keys, values } = view.layers[layer];
  const out = new Float32Array(rows * heads * headDim);
  for (let row = 0; row < rows; row++) {
    const slots = slotsSeen(view, row);
    for (let h = 0; h < heads; h++) {
      const kvHead = Math.floor((h * kvHeads) / heads);
      const at = (slot: number): number => (slot * kvHeads + kvHead) * headDim;
      const scores = slots.map((slot, index) => {
        const turned = index < sinkEnds[row] ? 1 : 0;
        const q = ((row * 2 + turned) * heads + h) * headDim;
        let dot = 0;
        for (let d = 0; d < headDim; d++) dot += queries.data[q + d] * keys[at(slot) + d];
        return dot * scale;
      });
      const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
      const weights = scores.map((score) => Math.exp(score - largest));
      const total = weights.reduce((a, b) => a + b, 0);
      for (let d = 0; d < headDim; d++) {
        const sum = slots.reduce((sum, slot, k) => sum + weights[k] * values[at(slot) + d], 0);
        out[(row * heads + h) * headDim + d] = sum / total;
      }
    }
  }
  return out;
}

const attendOp: Op = {
  name: "attend",
  kind: "cache",
  infer: ({ inputs: [queries], attrs }) => {
    const { heads, headDim } = numbers(attrs);
    return { dtype: "f32", shape: [...queries.shape.slice(0, -2), heads * headDim] };
  },
  evaluate: evaluateAttend,
};

/**
 * Turns queries and keys, and stores keys and values in the cache. qkv [rows, (heads + 2·kvHeads) × headDim] →
 * queries [rows, 2, heads × headDim]: as window keys are seen, and as sink keys are seen (DESIGN §3).
 */
export const ropeAppend = (qkv: Node, cache: Node, attrs: AttentionAttrs<"ropeBase">): Node =>
  new Node(ropeAppendOp, [qkv, cache], attrs);

/** Softmax attention of each row over the keys it sees: queries [rows, 2, heads × headDim] → [rows, heads × headDim]. */
export const attend = (queries: Node, cache: Node, attrs: AttentionAttrs<"scale">): Node =>
  new Node(attendOp, [queries, cache], attrs);

export const isRopeAppend = (node: Node): boolean => node.op === ropeAppendOp;
export const isCacheOp = (node: Node): boolean => node.op.kind === "cache";
