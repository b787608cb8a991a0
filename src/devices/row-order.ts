import { dequantize, formatBytes } from "../quant/formats.ts";
import type { RowOrder, WeightSegment } from "./device.ts";

/** Row of the file that holds row `row` of the model. With headDim 4: rows 0 1 2 3 are stored as 0 2 1 3. */
export function storedRow(order: RowOrder, row: number): number {
  if (order.kind === "plain") return row;
  const { headDim } = order;
  const inHead = row % headDim;
  const half = headDim / 2;
  return row - inHead + 2 * (inHead % half) + Math.floor(inHead / half);
}

/** Rows [begin, end) of the model, out of whole heads as they lie in a file, as f32 to their place in `out` [rows, columns]. */
export function widenRows(
  { format, columns, rowOrder }: Pick<WeightSegment, "format" | "columns" | "rowOrder">,
  bytes: Uint8Array,
  out: Float32Array,
  [begin, end]: readonly [begin: number, end: number],
): void {
  const rowBytes = formatBytes(format, columns);
  for (let row = begin; row < end; row++) {
    const at = storedRow(rowOrder, row) * rowBytes;
    const to = out.subarray(row * columns, (row + 1) * columns);
    dequantize(format, bytes.subarray(at, at + rowBytes), to);
  }
}
