import { activationGroup, type Digits } from "../../ops/index.ts";

/**
 * How rounded activations lie in memory, for up to `maxRows` rows: the int8 digits, row after row (with two digits first all
 * high ones, then all low ones), then for each row and block of 32 values a record of 16 bytes:
 *
 *   f32 scale · i32 sum of the 32 values · i32 sum of the first 16 · (unused)
 *
 * With two digits a value is high × 256 + low, low in [−128, 127].
 */
type RoundedPlace = Record<"lowOffset" | "recordOffset" | "recordRowBytes" | "bytes", number>;
export const recordBytes = 16;
export const record = { scale: 0, sum: 4, sumFirst: 8 } as const;

export function roundedPlace(columns: number, digits: Digits, maxRows: number): RoundedPlace {
  const lowOffset = maxRows * columns;
  const recordOffset = digits * lowOffset;
  const recordRowBytes = (columns / activationGroup) * recordBytes;
  const bytes = recordOffset + maxRows * recordRowBytes;
  return { lowOffset, recordOffset, recordRowBytes, bytes };
}
