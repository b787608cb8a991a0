import { groupBytes, groupRows, layouts } from "../../kernels/linear/layouts.ts";
import { packGroup } from "../../kernels/linear/pack.ts";
import { dequantize, formatBytes } from "../../quant/formats.ts";
import { storedRow } from "../row-order.ts";
import type { PackJob } from "./protocol.ts";

/** Puts the rows of a job from staging to their place. `firstRow` is a multiple of 8 and of the rows that change places. */
export function pack(memory: WebAssembly.Memory, weightsAt: number, job: PackJob): void {
  const { weight, firstRow, rows } = job;
  const { format, columns } = weight;
  const rowBytes = formatBytes(format, columns);
  const bytes = new Uint8Array(memory.buffer, job.staging, rows * rowBytes);
  const place = weightsAt + weight.offset;
  const stored = (row: number): number =>
    (storedRow(job.rowOrder, firstRow + row) - firstRow) * rowBytes;
  if (weight.layout === "plain") {
    const out = new Float32Array(memory.buffer, place + 4 * firstRow * columns, rows * columns);
    for (let row = 0; row < rows; row++) {
      const from = bytes.subarray(stored(row), stored(row) + rowBytes);
      dequantize(format, from, out.subarray(row * columns, (row + 1) * columns));
    }
    return;
  }
  const out = new Uint8Array(memory.buffer);
  const group = groupBytes(layouts[format], columns);
  for (let row = 0; row < rows; row += groupRows) {
    const count = Math.min(groupRows, rows - row);
    const rowAt = Array.from({ length: count }, (_, i) => stored(row + i));
    packGroup(format, columns, bytes, rowAt, out, place + ((firstRow + row) / groupRows) * group);
  }
}
