/** Half-precision floats: IEEE binary16 and bfloat16, as bit patterns in unsigned 16-bit integers. */
const word = new DataView(new ArrayBuffer(4));

/** binary16 bits → number (exact). */
export function f16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** number → binary16 bits, to nearest, ties to even. */
export function numberToF16(value: number): number {
  word.setFloat32(0, value);
  const bits = word.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  if (Number.isNaN(value)) return sign | 0x7e00;
  const exponent = Math.max(-14, ((bits >>> 23) & 255) - 127); // subnormals have that of the least normal
  const steps = Math.abs(value) / 2 ** (exponent - 10);
  const rounded = steps + 2 ** 52 - 2 ** 52; // whole: f64 has no bits below 1 there
  return sign | Math.min(0x7c00, 1024 * (exponent + 14) + rounded);
}

/** bfloat16 bits → number (exact). */
export function bf16ToNumber(bits: number): number {
  word.setUint32(0, bits << 16);
  return word.getFloat32(0);
}

/** All 65536 binary16 values, for bulk decoding. */
export const f16Table: Float32Array = Float32Array.from({ length: 65536 }, (_, bits) =>
  f16ToNumber(bits),
);
