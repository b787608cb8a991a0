/** How keys and values lie in the cache. `q8`: int8 with one scale per 32 values of a head. */
export type KvType = "f32" | "f16" | "q8";
export const kvGroup = 32;

/**
 * How keys and values lie in a page (16 tokens of one layer), one KV head after the other, each:
 *
 *   keys    [headDim][16 tokens], so that lanes are tokens when scores are summed over headDim
 *   values  [16 tokens][headDim], so that lanes are dimensions when values are summed over tokens
 *
 * f32 or f16; with q8 int8, and after the keys f32 scales [groups][16 tokens], after the values [16 tokens][groups], where a
 * group is 32 values of a head. Where headDim is no multiple of 4, 16 bytes follow that kernels may read but never use.
 */
export const pageTokens = 16;

/** Pages that hold `tokens` tokens of some sequences: one more for each, whose last page is not full or is being copied. */
export const pagesFor = (tokens: number, sequences: number, tokensOfPage: number): number =>
  Math.ceil(tokens / tokensOfPage) + sequences;

export interface PageShape {
  readonly kv: KvType;
  readonly kvHeads: number;
  readonly headDim: number;
}
export const elementBytes: Readonly<Record<KvType, number>> = { f32: 4, f16: 2, q8: 1 };

type PagePlace = Record<
  "element" | "groups" | "keyScales" | "values" | "valueScales" | "headBytes" | "pageBytes",
  number
>;

export function pagePlace({ kv, kvHeads, headDim }: PageShape): PagePlace {
  const element = elementBytes[kv];
  const groups = kv === "q8" ? Math.ceil(headDim / kvGroup) : 0;
  const plane = pageTokens * headDim * element;
  const scales = pageTokens * groups * 4;
  const headBytes = 2 * (plane + scales) + (headDim % 4 === 0 ? 0 : 16);
  const values = plane + scales;
  const places = { keyScales: plane, values, valueScales: values + plane };
  return { element, groups, ...places, headBytes, pageBytes: kvHeads * headBytes };
}
