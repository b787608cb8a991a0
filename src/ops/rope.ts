import { cosSin, pow } from "../base/math.ts";

/** Of each position cos [headDim/2], then sin [headDim/2], one position after the other. */
export type Angles = (positions: Int32Array) => Float32Array;

/**
 * Rotary position embedding (Su et al. 2021, arXiv 2104.09864) in the half-split order of Hugging Face: pair i is
 * (x[i], x[i + headDim/2]), turned by position × base^(−2i / headDim).
 */
export function ropeAngles(base: number, headDim: number): Angles {
  const half = headDim / 2;
  const frequencies = Float64Array.from({ length: half }, (_, i) => pow(base, (-2 * i) / headDim));
  return (positions) => {
    const angles = new Float32Array(positions.length * headDim);
    positions.forEach((position, row) => {
      const at = row * headDim;
      for (let i = 0; i < half; i++) {
        [angles[at + i], angles[at + half + i]] = cosSin(position * frequencies[i]);
      }
    });
    return angles;
  };
}

/** One head x [headDim] turned by the angles at `table[at …]`. */
export function rotate(x: Float32Array, table: Float32Array, at: number): Float32Array {
  const out = new Float32Array(x.length);
  const half = x.length / 2;
  for (let i = 0; i < half; i++) {
    const [cos, sin] = [table[at + i], table[at + half + i]];
    out[i] = x[i] * cos - x[i + half] * sin;
    out[i + half] = x[i + half] * cos + x[i] * sin;
  }
  return out;
}
