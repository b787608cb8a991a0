import { f16ToNumber } from "../../src/base/half.ts";
import { BlockIntegers, integerFormats } from "../../src/quant/blocks.ts";
import { formatBytes, formats, isFloat, type FormatName } from "../../src/quant/formats.ts";
import type { WeightData, WeightPart } from "./harness.ts";

/** Numbers in [0, 1) from a seed (mulberry32). */
export function randomSource(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Values like activations: mostly within ±1, some ten times that, a few zeros. */
export function randomFloats(count: number, seed: number): Float32Array {
  const next = randomSource(seed);
  return Float32Array.from({ length: count }, () => {
    const kind = next();
    return kind < 0.02 ? 0 : (2 * next() - 1) * (kind < 0.06 ? 10 : 1);
  });
}

export const vector = (name: string, values: Float32Array): WeightData => ({
  name,
  parts: [{ format: "f32", rows: 1, columns: values.length, bytes: new Uint8Array(values.buffer) }],
});

/** A part of a weight with random bytes whose scales are those of a model: 1/4096 to 1/4. */
export function randomPart(
  format: FormatName,
  rows: number,
  columns: number,
  seed: number,
): WeightPart {
  const count = rows * columns;
  const bytes = new Uint8Array(formatBytes(format, count));
  const next = randomSource(seed);
  const { block, bytes: size } = formats[format];
  const view = new DataView(bytes.buffer);
  if (isFloat(format)) {
    for (let at = 0; at < count; at++) {
      const value = (2 * next() - 1) / 4;
      if (format === "f32") view.setFloat32(4 * at, value, true);
      else view.setUint16(2 * at, randomHalf(format, next), true);
    }
    return { format, rows, columns, bytes };
  }
  const integers = new BlockIntegers();
  const likely = (half: number): boolean => {
    const value = Math.abs(f16ToNumber(half));
    return value > 2 ** -12 && value < 0.25;
  };
  for (let at = 0; at < count / block; at++)
    do {
      for (let i = at * size; i < (at + 1) * size; i++) bytes[i] = 256 * next();
      integerFormats[format].unpack(view, at * size, integers);
    } while (
      !likely(integers.scale) ||
      (integerFormats[format].minimum !== undefined && !likely(integers.minimum))
    );
  return { format, rows, columns, bytes };
}

/** f16 bits from subnormal to 0.5, bf16 bits from 2^−30 to 0.5, both signs. */
function randomHalf(format: "f16" | "bf16", next: () => number): number {
  const sign = next() < 0.5 ? 0x8000 : 0;
  const [low, high] = format === "f16" ? [0, 0x3800] : [0x3080, 0x3f00];
  return sign | Math.floor(low + (high - low) * next());
}

export const randomWeight = (
  name: string,
  format: FormatName,
  rows: number,
  columns: number,
  seed: number,
): WeightData => ({ name, parts: [randomPart(format, rows, columns, seed)] });
