import { f32, f32x4, i32, i32x4, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, FuncRef, Local, WasmModule } from "../../codegen/wasm/builder.ts";
import { expF32x4 } from "../../codegen/wasm/math.ts";

import { horizontal } from "../rows.ts";
import { loadFour, storeLanes, type Lanes } from "./pages.ts";
import { kvGroup, pagePlace, pageTokens, type PageShape } from "../../quant/kv-page.ts";

export interface AttendSpec extends PageShape {
  readonly heads: number;
  readonly scale: number;
}
export const groupOf = ({ heads, kvHeads }: AttendSpec): number => heads / kvHeads;

const pageParams = {
  queries: "i32",
  page: "i32",
  record: "i32",
  from: "i32",
  to: "i32",
  scratch: "i32",
} as const;
type Params = { readonly [Name in keyof typeof pageParams]: Local<"i32"> };
export type PageFunc = FuncRef<typeof pageParams, "void">;
type V128 = Expr<"v128">;

/** Heads whose sums stay in registers together: 3 × 4 vectors. */
const headsAtOnce = 3;

/**
 * Adds the keys `from` … `to` − 1 of one page to the record of the heads that share this KV head. Scratch: weights
 * [group][16 tokens], then the factor of the old record [group].
 */
export function emitPage(module: WasmModule, name: string, spec: AttendSpec): PageFunc {
  const group = groupOf(spec);
  const batches = Array.from({ length: Math.ceil(group / headsAtOnce) }, (_, b) =>
    Array.from(
      { length: Math.min(headsAtOnce, group - b * headsAtOnce) },
      (_, g) => b * headsAtOnce + g,
    ),
  );
  return module.func(
    name,
    pageParams,
    "void",
    (p, body) => {
      const masks = [0, 4, 8, 12].map((lane) => body.local(visible(p, lane)));
      for (const heads of batches) emitScores(body, spec, p, heads, masks);
      for (const heads of batches) emitValues(body, spec, p, heads);
    },
    { export: false },
  );
}

/** All ones in the lanes of tokens `first` … `first` + 3 that lie in [from, to). */
function visible(p: Params, first: number): V128 {
  const tokens = i32x4.const([first, first + 1, first + 2, first + 3]);
  return v128.and(i32x4.ge_s(tokens, i32x4.splat(p.from)), i32x4.lt_s(tokens, i32x4.splat(p.to)));
}

/** Scores of 16 tokens for some heads, then their weights exp(score − m) and the new m and l. */
function emitScores(
  body: Body,
  spec: AttendSpec,
  p: Params,
  heads: readonly number[],
  masks: readonly Local<"v128">[],
): void {
  const scores = heads.map(() => masks.map(() => body.local(f32x4.const([0, 0, 0, 0]))));
  if (spec.kv === "q8") emitGroupDots(body, spec, p, heads, scores);
  else emitDots(body, spec, p, heads, scores, { first: 0, past: spec.headDim });
  heads.forEach((head, h) => emitWeights(body, spec, p, head, scores[h], masks));
}

/** scores[head][token] += Σ q[d] × k[d][token] over d in [first, past). */
function emitDots(
  body: Body,
  spec: AttendSpec,
  p: Params,
  heads: readonly number[],
  scores: readonly (readonly Local<"v128">[])[],
  range: { first: number; past: number },
): void {
  const { element } = pagePlace(spec);
  const columnBytes = pageTokens * element;
  const query = body.local(i32.add(p.queries, 4 * range.first));
  const keys = body.local(i32.add(p.page, columnBytes * range.first));
  const unroll = 2;
  body.for(range.first, range.past, unroll, () => {
    for (let d = 0; d < unroll; d++) {
      const k = [0, 1, 2, 3].map((j) =>
        body.local(loadFour(spec.kv, keys, d * columnBytes + 4 * j * element)),
      );
      heads.forEach((head, h) => {
        const q = body.local(v128.load32_splat(query, head * spec.headDim * 4 + 4 * d));
        scores[h].forEach((score, j) => score.set(f32x4.add(score, f32x4.mul(q, k[j]))));
      });
    }
    query.set(i32.add(query, 4 * unroll));
    keys.set(i32.add(keys, columnBytes * unroll));
  });
}

/** The same over int8 keys: each group of 32 dimensions is summed on its own, then multiplied by its scales. */
function emitGroupDots(
  body: Body,
  spec: AttendSpec,
  p: Params,
  heads: readonly number[],
  scores: readonly (readonly Local<"v128">[])[],
): void {
  const { groups, keyScales } = pagePlace(spec);
  const sums = scores.map((row) => row.map(() => body.local("v128")));
  for (let group = 0; group < groups; group++) {
    for (const row of sums) for (const sum of row) sum.set(f32x4.const([0, 0, 0, 0]));
    const first = group * kvGroup;
    const past = Math.min(first + kvGroup, spec.headDim);
    emitDots(body, spec, p, heads, sums, { first, past });
    for (let j = 0; j < 4; j++) {
      const scale = body.local(v128.load(p.page, keyScales + group * pageTokens * 4 + 16 * j));
      sums.forEach((row, h) => scores[h][j].set(f32x4.add(scores[h][j], f32x4.mul(row[j], scale))));
    }
  }
}

function emitWeights(
  body: Body,
  spec: AttendSpec,
  p: Params,
  head: number,
  scores: readonly Local<"v128">[],
  masks: readonly Local<"v128">[],
): void {
  const group = groupOf(spec);
  const mAt = group * spec.headDim * 4 + 4 * head;
  const lAt = mAt + 4 * group;
  const hidden = f32x4.const([-1e30, -1e30, -1e30, -1e30]);
  const factor = f32x4.splat(f32.const(spec.scale));
  scores.forEach((score, j) =>
    score.set(v128.bitselect(f32x4.mul(score, factor), hidden, masks[j])),
  );
  const [a, b, c, d] = scores;
  const largest = horizontal(body, f32x4.max(f32x4.max(a, b), f32x4.max(c, d)), f32.max);
  const old = body.local(f32.load(p.record, mAt));
  const most = body.local(f32.max(old, largest));
  body.emit(f32.store(p.record, most, mAt));
  const splat = body.local(f32x4.splat(most));
  const weights = scores.map((score, j) => {
    const weight = expF32x4(body, f32x4.sub(score, splat));
    return body.local(v128.and(weight, masks[j]));
  });
  weights.forEach((weight, j) =>
    body.emit(v128.store(p.scratch, weight, head * pageTokens * 4 + 16 * j)),
  );
  const kept = body.local(f32x4.extract_lane(expF32x4(body, f32x4.splat(f32.sub(old, most))), 0));
  body.emit(f32.store(p.scratch, kept, group * pageTokens * 4 + 4 * head));
  const [e, f, g, h] = weights;
  const added = horizontal(body, f32x4.add(f32x4.add(e, f), f32x4.add(g, h)), f32.add);
  body.emit(f32.store(p.record, f32.add(f32.mul(f32.load(p.record, lAt), kept), added), lAt));
}

/** o[head][d] = o × factor + Σ weight[token] × v[token][d], 16 dimensions of some heads at a time. */
function emitValues(body: Body, spec: AttendSpec, p: Params, heads: readonly number[]): void {
  const whole = spec.headDim - (spec.headDim % 16);
  if (whole > 0)
    body.for(0, whole, 16, (d) => emitColumns(body, spec, p, heads, { d, vectors: 4 }));
  const rest = spec.headDim - whole;
  if (rest > 0) {
    const d = body.local(i32.const(whole));
    emitColumns(body, spec, p, heads, { d, vectors: Math.ceil(rest / 4) });
  }
}

function emitColumns(
  body: Body,
  spec: AttendSpec,
  p: Params,
  heads: readonly number[],
  { d, vectors }: { d: Local<"i32">; vectors: number },
): void {
  const place = pagePlace(spec);
  const group = groupOf(spec);
  const columns = Array.from({ length: vectors }, (_, j) => j);
  const to = body.local(i32.add(p.record, i32.shl(d, 2)));
  const sums = heads.map((head) => {
    const factor = body.local(v128.load32_splat(p.scratch, group * pageTokens * 4 + 4 * head));
    return columns.map((j) =>
      body.local(f32x4.mul(v128.load(to, head * spec.headDim * 4 + 16 * j), factor)),
    );
  });
  const tokenBytes = spec.headDim * place.element;
  const values = body.local(
    i32.add(
      i32.add(p.page, place.values),
      i32.add(i32.mul(d, place.element), i32.mul(p.from, tokenBytes)),
    ),
  );
  body.for(p.from, p.to, 1, (token) => {
    const scales = columns.map((j) => valueScale(body, spec, p, token, { d, column: j }));
    const v = columns.map((j) => {
      const value = loadFour(spec.kv, values, 4 * j * place.element);
      const scale = scales[j];
      return body.local(scale === undefined ? value : f32x4.mul(value, scale));
    });
    const weights = body.local(i32.add(p.scratch, i32.shl(token, 2)));
    heads.forEach((head, h) => {
      const weight = body.local(v128.load32_splat(weights, head * pageTokens * 4));
      sums[h].forEach((sum, j) => sum.set(f32x4.add(sum, f32x4.mul(weight, v[j]))));
    });
    values.set(i32.add(values, tokenBytes));
  });
  const lanesOf = (j: number): Lanes =>
    spec.headDim % 4 !== 0 && vectors < 4 && j === vectors - 1 ? 2 : 4;
  heads.forEach((head, h) =>
    sums[h].forEach((sum, j) =>
      body.emit(storeLanes(lanesOf(j), to, sum, head * spec.headDim * 4 + 16 * j)),
    ),
  );
}

/** The scale of a q8 value in all lanes; 4 dimensions never cross a group of 32. */
function valueScale(
  body: Body,
  spec: AttendSpec,
  p: Params,
  token: Local<"i32">,
  { d, column }: { d: Local<"i32">; column: number },
): Local<"v128"> | undefined {
  if (spec.kv !== "q8") return undefined;
  const { groups, valueScales } = pagePlace(spec);
  const group = i32.shr_u(i32.add(d, 4 * column), 5);
  const at = i32.shl(i32.add(i32.mul(token, groups), group), 2);
  return body.local(v128.load32_splat(i32.add(p.page, at), valueScales));
}
