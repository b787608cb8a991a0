import { cosSin, pow } from "../base/math.ts";

/**
 * Rotary position embedding (Su et al. 2021, arXiv 2104.09864) in the half-split order of Hugging Face: pair i is
 * (x[i], x[i + headDim/2]), turned by position × base^(−2i / headDim).
 */
export class RopeTable {
  readonly half: number;
  readonly #frequencies: Float64Array;

  constructor(base: number, headDim: number) {
    this.half = headDim / 2;
    this.#frequencies = Float64Array.from({ length: this.half }, (_, i) =>
      pow(base, (-2 * i) / headDim),
    );
  }

  /** Writes cos [half], then sin [half] of each position, one position after the other, into `out`, which it returns. */
  fill(positions: Int32Array, out: Float32Array): Float32Array {
    positions.forEach((position, row) => {
      const at = row * 2 * this.half;
      for (let i = 0; i < this.half; i++) {
        const [cos, sin] = cosSin(position * this.#frequencies[i]);
        out[at + i] = cos;
        out[at + this.half + i] = sin;
      }
    });
    return out;
  }
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
