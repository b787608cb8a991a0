import { dequantize, formatBytes, type FormatName } from "../quant/formats.ts";

/**
 * How a file orders the rows of a matrix. `interleaved`: row h·headDim + s·headDim/2 + i is stored as row h·headDim + 2·i + s
 * (GGUF and Mistral's own files turn adjacent pairs; the model turns halves).
 */
export type RowOrder =
  | { readonly kind: "plain" }
  | { readonly kind: "interleaved"; readonly headDim: number };

/** Row of the file that holds row `row` of the model. With headDim 4: rows 0 1 2 3 are stored as 0 2 1 3. */
export function storedRow(order: RowOrder, row: number): number {
  if (order.kind === "plain") return row;
  const { headDim } = order;
  const inHead = row % headDim;
  const half = headDim / 2;
  return row - inHead + 2 * (inHead % half) + Math.floor(inHead / half);
}

/** Some rows of a file, whole heads where their order is not plain. */
export interface StoredRows {
  readonly format: FormatName;
  readonly columns: number;
  readonly rowOrder: RowOrder;
  readonly bytes: Uint8Array;
}

/** Rows [begin, end) of `stored` in the order of the model as f32, to their place in `out` [rows, columns]. */
export function widenRows(
  { format, columns, rowOrder, bytes }: StoredRows,
  out: Float32Array,
  begin: number,
  end: number,
): void {
  const rowBytes = formatBytes(format, columns);
  for (let row = begin; row < end; row++) {
    const at = storedRow(rowOrder, row) * rowBytes;
    const to = out.subarray(row * columns, (row + 1) * columns);
    dequantize(format, bytes.subarray(at, at + rowBytes), to);
  }
}
