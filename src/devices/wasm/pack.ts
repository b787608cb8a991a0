import { groupBytes, groupRows, layouts } from "../../quant/compute-layout.ts";
import { packGroup } from "../../quant/repack.ts";
import type { PlannedWeight } from "../../plan/plan.ts";
import { dequantize, formatBytes } from "../../quant/formats.ts";
import type { RowOrder } from "../device.ts";
import { storedRow } from "../row-order.ts";
import type { PackJob } from "./protocol.ts";

/** Rows that stay together: whole groups, and whole heads where their rows change places. */
export const rowUnit = (headDim: number): number =>
  headDim === 0 ? groupRows : (groupRows * headDim) / greatestDivisor(groupRows, headDim);

const greatestDivisor = (a: number, b: number): number => (b === 0 ? a : greatestDivisor(b, a % b));

/** Puts a thread's share of a job's rows from staging to their place. `firstRow` is a multiple of `rowUnit`. */
export function packShare(
  memory: WebAssembly.Memory,
  weightsAt: number,
  weight: PlannedWeight,
  job: PackJob,
  { thread, threads }: { readonly thread: number; readonly threads: number },
): void {
  const unit = rowUnit(job.headDim);
  const units = Math.ceil(job.rows / unit);
  const begin = Math.floor((units * thread) / threads) * unit;
  const end = Math.min(job.rows, Math.floor((units * (thread + 1)) / threads) * unit);
  if (begin >= end) return;
  const rowBytes = formatBytes(weight.format, weight.columns);
  const firstRow = job.firstRow + begin;
  const bytes = new Uint8Array(
    memory.buffer,
    job.staging + begin * rowBytes,
    (end - begin) * rowBytes,
  );
  const order: RowOrder =
    job.headDim > 0 ? { kind: "interleaved", headDim: job.headDim } : { kind: "plain" };
  const stored = (row: number): number => (storedRow(order, firstRow + row) - firstRow) * rowBytes;
  const place = weightsAt + weight.offset;
  if (weight.layout === "plain")
    packPlain(memory, place, weight, { bytes, firstRow, rows: end - begin, stored });
  else packRows(memory, place, weight, { bytes, firstRow, rows: end - begin, stored });
}

interface Rows {
  readonly bytes: Uint8Array;
  readonly firstRow: number;
  readonly rows: number;
  /** Offset in `bytes` of a row, counted from `firstRow`. */
  stored(row: number): number;
}

/** Rows as plain f32. */
function packPlain(
  memory: WebAssembly.Memory,
  place: number,
  { format, columns }: PlannedWeight,
  { bytes, firstRow, rows, stored }: Rows,
): void {
  const rowBytes = formatBytes(format, columns);
  const out = new Float32Array(memory.buffer, place + 4 * firstRow * columns, rows * columns);
  for (let row = 0; row < rows; row++) {
    const from = bytes.subarray(stored(row), stored(row) + rowBytes);
    dequantize(format, from, out.subarray(row * columns, (row + 1) * columns));
  }
}

/** Groups of rows in the compute layout of their format. */
function packRows(
  memory: WebAssembly.Memory,
  place: number,
  { format, columns }: PlannedWeight,
  { bytes, firstRow, rows, stored }: Rows,
): void {
  const out = new Uint8Array(memory.buffer);
  const group = groupBytes(layouts[format], columns);
  for (let row = 0; row < rows; row += groupRows) {
    const rowAt = Array.from({ length: Math.min(groupRows, rows - row) }, (_, i) =>
      stored(row + i),
    );
    packGroup(format, columns, bytes, rowAt, out, place + ((firstRow + row) / groupRows) * group);
  }
}
