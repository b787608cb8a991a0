import { f32x4, i32x4, v128, type Body, type Local, type V128 } from "./builder.ts";

/**
 * Elementary functions on four f32 lanes from strict arithmetic, so that the bits are the same on every engine. Halves are
 * 16-bit patterns in i32 lanes.
 */
const [all, allBits] = [f32x4.const, i32x4.const];

/**
 * f16, sign-extended to i32 lanes → f32, exact for all finite values, subnormals included: the fields are moved, copies of the
 * sign are cut out of the exponent, and the exponent is raised by 112.
 */
export const f16ToF32x4 = (halves: V128): V128 =>
  f32x4.mul(v128.and(i32x4.shl(halves, 13), allBits(0x8fffe000)), all(2 ** 112));

/**
 * f32 → f16 to nearest even; beyond 65504 to infinity. Normal values: rounding by adding half a unit in the last place.
 * Subnormal ones: adding 0.5 puts the unit 2^−24 at the end of the fraction, so the addition itself rounds.
 */
export function f32x4ToF16(body: Body, value: V128): V128 {
  const bits = body.local(value);
  const sign = body.local(v128.and(bits, allBits(-0x80000000)));
  const magnitude = body.local(v128.xor(bits, sign));
  const odd = v128.and(i32x4.shr_u(magnitude, 13), allBits(1));
  const rounded = i32x4.add(i32x4.add(magnitude, allBits(0xfff)), odd);
  const normal = i32x4.sub(i32x4.shr_u(rounded, 13), allBits(112 << 10));
  const tiny = i32x4.sub(f32x4.add(magnitude, all(0.5)), allBits(0x3f000000));
  const isTiny = i32x4.lt_s(magnitude, allBits(0x38800000));
  const finite = body.local(v128.bitselect(tiny, normal, isTiny));
  const isLarge = i32x4.gt_s(magnitude, allBits(0x477fefff));
  const limited = v128.bitselect(allBits(0x7c00), finite, isLarge);
  return v128.or(limited, i32x4.shr_u(sign, 16));
}

/** 1.5 × 2^23: added to a small number, it rounds it to an integer, to even, in the low bits. */
const toInteger = 12582912;
/** The nearest integers, to even, of values within ±2^22. */
export const nearestI32x4 = (value: V128): V128 =>
  i32x4.sub(f32x4.add(value, all(toInteger)), all(toInteger));

const log2e = 1.4426950408889634;
const ln2High = 0.693359375; // 10 bits: k × high is exact
const ln2Low = -0.00021219444005469057;
/** Coefficients of Cephes' expf (Moshier) for e^r = 1 + r + r²·p(r), |r| ≤ ln 2 / 2. */
const series = [
  1.98756915e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
  5.0000001201e-1,
];

/**
 * e^x within 2 units in the last place (within 60 above 88.37, where the power of two can grow no more); exactly 1 at 0, exactly
 * 0 below −87.3; NaN stays NaN.
 */
export function expF32x4(body: Body, x: V128): Local<"v128"> {
  const given = body.local(x);
  const limited = body.local(f32x4.pmin(f32x4.pmax(given, all(-87.5)), all(89)));
  const shifted = f32x4.add(f32x4.pmin(f32x4.mul(limited, all(log2e)), all(127)), all(toInteger));
  const bits = body.local(shifted);
  const k = body.local(f32x4.sub(bits, all(toInteger)));
  const high = f32x4.sub(limited, f32x4.mul(k, all(ln2High)));
  const r = body.local(f32x4.sub(high, f32x4.mul(k, all(ln2Low))));
  const [first, ...rest] = series;
  const p = rest.reduce<V128>((sum, c) => f32x4.add(f32x4.mul(sum, r), all(c)), all(first));
  const y = f32x4.add(f32x4.add(f32x4.mul(p, f32x4.mul(r, r)), r), all(1));
  const power = i32x4.shl(i32x4.add(bits, allBits(127)), 23);
  const scaled = f32x4.mul(y, power);
  return body.local(v128.andnot(scaled, f32x4.lt(given, all(-87.3))));
}

/** 1 / (1 + e^−x). */
export const sigmoidF32x4 = (body: Body, x: V128): V128 =>
  f32x4.div(all(1), f32x4.add(all(1), expF32x4(body, f32x4.neg(x))));

/** (e^2x − 1) / (e^2x + 1); saturates beyond ±15, and x itself where |x| < 2^−12, where the quotient would lose digits. */
export function tanhF32x4(body: Body, x: V128): V128 {
  const given = body.local(x);
  const limited = f32x4.pmin(f32x4.pmax(given, all(-15)), all(15));
  const power = expF32x4(body, f32x4.mul(limited, all(2)));
  const quotient = f32x4.div(f32x4.sub(power, all(1)), f32x4.add(power, all(1)));
  return v128.bitselect(given, quotient, f32x4.lt(f32x4.abs(given), all(2 ** -12)));
}
