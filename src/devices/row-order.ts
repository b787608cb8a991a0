import type { RowOrder } from "./device.ts";

/** Row of the file that holds row `row` of the model. With headDim 4: rows 0 1 2 3 are stored as 0 2 1 3. */
export function storedRow(order: RowOrder, row: number): number {
  switch (order.kind) {
    case "plain":
      return row;
    case "interleaved": {
      const { headDim } = order;
      const inHead = row % headDim;
      const half = headDim / 2;
      return row - inHead + 2 * (inHead % half) + Math.floor(inHead / half);
    }
    default:
      return order satisfies never;
  }
}
