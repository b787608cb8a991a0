/**
 * How integer dots are computed, proved by the probe of the device (devices/wasm/probe.ts). All give the same exact integers.
 *
 *   relaxed   i32x4.relaxed_dot_i8x16_i7x16_add_s: one instruction with AVX-VNNI or Arm dot
 *   pairs     i16x8.relaxed_dot_i8x16_i7x16_s, several summed in i16 lanes before they are widened: x86 without AVX-VNNI
 *   words     i32x4.dot_i16x8_s: plain SIMD-128
 */
export type DotKind = "relaxed" | "pairs" | "words";

/**
 * What the relaxed dot makes of 8-bit weights:
 *
 *   unsigned  the second operand counts as 0 … 255: a weight stored as w + 128 works at full speed
 *   signed    it counts as −128 … 127
 *   words     neither is certain: products of int16
 */
export type WideKind = "unsigned" | "signed" | "words";

export interface WasmFeatures {
  readonly dot: DotKind;
  readonly wide: WideKind;
  /** Whether V8 joins pairs of vector operations, so that twice as many values fit its registers. */
  readonly revectorize: boolean;
}
