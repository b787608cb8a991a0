import { f32, f32x4, i32, v128 } from "../../codegen/wasm/builder.ts";
import type { Local } from "../../codegen/wasm/builder.ts";
import { expF32x4 } from "../../codegen/wasm/math.ts";
import { elementBytes, kvGroup, pagePlace, pageTokens } from "../../quant/kv-page.ts";
import { internal, type Emit as EmitFor } from "../program.ts";
import { horizontal } from "../rows.ts";
import { lanesOf, loadFour, storeLanes, type AttentionShape, type Lanes } from "./pages.ts";

/** What the code of attention depends on. */
export interface AttendSpec extends AttentionShape {
  readonly scale: number;
  /** Whether V8 joins pairs of vectors. */
  readonly revectorize: boolean;
  /** Most spans that a row can see. */
  readonly mostSpans: number;
}
type Emit = EmitFor<AttendSpec>;

/** Keys that are weighed together; spans are aligned to absolute positions. */
export const spanTokens = 128;
/** Scores and then weights of a span: [group][spanTokens] f32. */
const rowBytes = 4 * spanTokens;
export const scoresBytes = ({ group }: AttendSpec): number => group * rowBytes;
export const hiddenScore = -1e30;

/** Sums that stay in registers: of so many heads, and for each so many vectors, joined ones half as many. */
const headsAtOnce = 4;
const vectorsAtOnce = ({ revectorize }: AttendSpec): number => (revectorize ? 4 : 2);
/** 0 … count − 1, up to `most` at a time. */
function batches(count: number, most: number): number[][] {
  const left = [...Array(count).keys()];
  const batches: number[][] = [];
  while (left.length > 0) batches.push(left.splice(0, most));
  return batches;
}

/** Bytes of a plane, all keys or all values of a page, as f32. */
export const planeBytes = ({ headDim }: AttendSpec): number => 4 * pageTokens * headDim;

/** Bytes that come into the cache together. */
const cacheLine = 64;

/**
 * A plane of a page as f32, that of q8 without its scales. A word of every line is read first: lines that are not in the cache come
 * at the same time then. Loads stand before stores, and these from the end on: so V8 joins pairs of both.
 */
export const emitWiden: Emit = internal("widen", "from to", (code) => {
  const { body, kv, p } = code;
  const element = elementBytes[kv];
  const unroll = 8; // a plane has 16 × headDim values, and headDim is even
  const touched = body.local(i32.const(0));
  for (let at = 0; at < pageTokens * code.headDim * element; at += cacheLine)
    touched.set(i32.or(touched, i32.load(p.from, at)));
  body.emit(i32.store(p.to, touched)); // or else V8 drops the loads; values go over it
  body.for(0, planeBytes(code), 16 * unroll, () => {
    const quads = Array.from({ length: unroll }, (_, quad) =>
      body.local(loadFour[kv](p.from, 4 * element * quad)),
    );
    for (let quad = unroll - 1; quad >= 0; quad--)
      body.emit(v128.store(p.to, quads[quad], 16 * quad));
    p.from.set(i32.add(p.from, 4 * element * unroll));
    p.to.set(i32.add(p.to, 16 * unroll));
  });
});

/** scores[head][16 tokens] = scale × Σ q[head][d] × k[d][token], for the heads of a group. */
export const emitScores: Emit = internal("scores", "queries keys page scores", (code) => {
  const { body, p, kv, headDim, scale } = code;
  const { keyScales } = pagePlace(code);
  const columnBytes = 4 * pageTokens;
  /** Dimensions that are summed before a scale multiplies them: all of a head, or groups of int8 keys. */
  const width = kv === "q8" ? kvGroup : headDim;
  /** Those from `first` on, of some heads × some of the 4 vectors of tokens of a page. */
  const add = (heads: readonly number[], vectors: readonly number[], first: number): void => {
    const past = Math.min(first + width, headDim);
    const sums = heads.map(() => vectors.map(() => body.local(f32x4.const(0))));
    const queries = heads.map((head) => body.at(p.queries, 4 * (head * headDim + first)));
    const keys = body.at(p.keys, columnBytes * first);
    const unroll = (past - first) % 4 === 0 ? 4 : 2;
    body.for(first, past, unroll, () => {
      for (let d = 0; d < unroll; d++) {
        const k = vectors.map((v) => body.local(v128.load(keys, d * columnBytes + 16 * v)));
        queries.forEach((query, h) => {
          const q = body.local(v128.load32_splat(query, 4 * d));
          sums[h].forEach((sum, j) => sum.set(f32x4.add(sum, f32x4.mul(q, k[j]))));
        });
      }
      for (const query of queries) query.set(i32.add(query, 4 * unroll));
      keys.set(i32.add(keys, columnBytes * unroll));
    });
    for (const [h, head] of heads.entries())
      for (const [j, sum] of sums[h].entries()) {
        const inPage = 16 * vectors[j];
        const at = head * rowBytes + inPage;
        const scales = keyScales + (first / kvGroup) * columnBytes + inPage;
        const scaled = kv === "q8" ? f32x4.mul(sum, v128.load(p.page, scales)) : sum;
        const total = first === 0 ? scaled : f32x4.add(v128.load(p.scores, at), scaled);
        const result = past < headDim ? total : f32x4.mul(total, f32x4.const(scale));
        body.emit(v128.store(p.scores, result, at));
      }
  };
  for (const heads of batches(code.group, headsAtOnce))
    for (const vectors of batches(pageTokens / 4, vectorsAtOnce(code)))
      for (let first = 0; first < headDim; first += width) add(heads, vectors, first);
});

/** Copies the scores of the tokens `from` … `to` − 1 of a page. */
export const emitCopyVisible: Emit = internal("copy", "from to page scores", (code) => {
  const { body, p } = code;
  body.for(p.from, p.to, 1, (token) => {
    const [from, to] = [p.page, p.scores].map((base) => body.at(base, i32.shl(token, 2)));
    for (let at = 0; at < scoresBytes(code); at += rowBytes)
      body.emit(f32.store(to, f32.load(from, at), at));
  });
});

/**
 * Scores of a span become weights exp(score − m), in place, for the first `bytes` of each head's row, a multiple of 32; `lengths`
 * takes m [group] and l = Σ weights [group]. Sums have four lanes in order of tokens, so that hidden scores change no bit.
 */
export const emitWeights: Emit = internal("weights", "scores bytes lengths", (code) => {
  const { body, p } = code;
  body.for(0, code.group, 1, () => {
    const end = body.at(p.scores, p.bytes);
    const most = body.local(f32x4.const(hiddenScore));
    body.for(p.scores, end, 16, (at) => most.set(f32x4.pmax(most, v128.load(at))));
    const m = body.local(horizontal(body, most, f32.max));
    const splat = body.local(f32x4.splat(m));
    const sum = body.local(f32x4.const(0));
    body.for(p.scores, end, 32, (at) => {
      const weights = [0, 16].map((offset) =>
        expF32x4(body, f32x4.sub(v128.load(at, offset), splat)),
      );
      for (const j of [1, 0]) body.emit(v128.store(at, weights[j], 16 * j)); // as in `emitWiden`
      for (const weight of weights) sum.set(f32x4.add(sum, weight));
    });
    body.emit(f32.store(p.lengths, m));
    body.emit(f32.store(p.lengths, horizontal(body, sum, f32.add), 4 * code.group));
    p.scores.set(i32.add(p.scores, rowBytes));
    p.lengths.set(i32.add(p.lengths, 4));
  });
});

/** o[head][d] += Σ weight[head][token] × v[token][d] over the tokens `from` … `to` − 1 of a page. */
export const emitValues: Emit = internal("values", "weights values page from to o", (code) => {
  const { body, p, kv, headDim } = code;
  const { valueScales, groups } = pagePlace(code);
  const headBytes = 4 * headDim;
  /** The dimensions from `d` on, so many lanes of each vector; they never cross a group of 32. */
  const add = (heads: readonly number[], d: Local<"i32">, lanes: readonly Lanes[]): void => {
    const to = body.at(p.o, i32.shl(d, 2));
    const sums = heads.map((head) =>
      lanes.map((_, j) => body.local(v128.load(to, head * headBytes + 16 * j))),
    );
    const values = body.at(p.values, i32.add(i32.shl(d, 2), i32.mul(p.from, headBytes)));
    body.for(p.from, p.to, 1, (token) => {
      const v = lanes.map((_, j) => body.local(v128.load(values, 16 * j)));
      const weights = body.at(p.weights, i32.shl(token, 2));
      const scaleAt = i32.shl(i32.add(i32.mul(token, groups), i32.shr_u(d, 5)), 2);
      const stored = v128.load32_splat(i32.add(p.page, scaleAt), valueScales);
      const scale = kv === "q8" ? body.local(stored) : undefined;
      heads.forEach((head, h) => {
        const weight = v128.load32_splat(weights, head * rowBytes);
        const w = body.local(scale ? f32x4.mul(weight, scale) : weight);
        sums[h].forEach((sum, j) => sum.set(f32x4.add(sum, f32x4.mul(w, v[j]))));
      });
      values.set(i32.add(values, headBytes));
    });
    for (const [h, head] of heads.entries())
      for (const [j, sum] of sums[h].entries())
        body.emit(storeLanes(lanes[j], to, sum, head * headBytes + 16 * j));
  };
  const step = 4 * vectorsAtOnce(code);
  const whole = headDim - (headDim % step);
  for (const heads of batches(code.group, headsAtOnce)) {
    if (whole > 0) body.for(0, whole, step, (d) => add(heads, d, lanesOf(step)));
    if (whole < headDim) add(heads, body.local(i32.const(whole)), lanesOf(headDim - whole));
  }
});
