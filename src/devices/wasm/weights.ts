import { found, throwIfAborted } from "../../base/errors.ts";
import type { PlannedWeight } from "../../plan/plan.ts";
import { groupBytes, groupRows, layouts } from "../../quant/compute-layout.ts";
import { dequantize, formatBytes, formats } from "../../quant/formats.ts";
import { storedRow, type RowOrder, type WeightSource } from "../device.ts";
import type { Heap } from "./memory-map.ts";
import { weightAt, type Program } from "./runner.ts";
import type { Place, Team } from "./team.ts";

/** Bytes of a file that are read while the ones before are put in their place. */
const stagingBytes = 1 << 22;

export interface LoadProgress {
  /** Called with the bytes of the file that are in place, after each part. */
  readonly onBytes?: ((loaded: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}
export type Loading = LoadProgress & { readonly sources: readonly WeightSource[] };

/**
 * Reads all weights and puts them in their place: two parts in memory at a time, one being read by this thread while the team
 * packs the other.
 */
export async function loadWeights(
  weights: readonly PlannedWeight[],
  heap: Heap,
  team: Team,
  { sources, onBytes, signal }: Loading,
): Promise<void> {
  const parts = weights.flatMap((weight, at) => partsOf(weight, at, sources));
  const total = parts.reduce((sum, part) => sum + part.bytes, 0);
  const size = Math.max(0, ...parts.map((part) => part.bytes));
  const stagings = [0, 1].map(() => heap.take(size, "loading"));
  let packing = Promise.resolve();
  let loaded = 0;
  try {
    for (const [at, { segment, job, bytes }] of parts.entries()) {
      throwIfAborted(signal);
      const staging = stagings[at % 2];
      await segment.read(job.firstRow, job.rows, heap.bytes(staging, bytes));
      await packing;
      onBytes?.(loaded, total);
      packing = team.do({ ...job, staging });
      loaded += bytes;
    }
  } finally {
    await packing;
    for (const staging of stagings) heap.release(staging);
  }
  onBytes?.(loaded, total);
}

function partsOf(planned: PlannedWeight, weight: number, sources: readonly WeightSource[]) {
  const { param, format, columns } = planned;
  const source = sources.find(({ name }) => name === param)?.segments[planned.segment];
  const segment = found(source, "weight-source", `no data for ${param}, part ${planned.segment}`);
  const rowBytes = formatBytes(format, columns);
  const unit = rowUnit(segment.rowOrder);
  const most = Math.max(unit, Math.floor(stagingBytes / rowBytes / unit) * unit);
  return Array.from({ length: Math.ceil(planned.rows / most) }, (_, at) => {
    const firstRow = at * most;
    const rows = Math.min(most, planned.rows - firstRow);
    const job = { kind: "pack", weight, firstRow, rows, rowOrder: segment.rowOrder } as const;
    return { segment, job, bytes: rows * rowBytes };
  });
}

/** Rows that stay together: whole groups, and whole heads where their rows change places. */
function rowUnit(order: RowOrder): number {
  const step = order.kind === "plain" ? groupRows : order.headDim;
  let unit = step;
  while (unit % groupRows !== 0) unit += step;
  return unit;
}

/** Rows of a file that lie in staging memory, to be put in their place. */
export interface PackJob {
  readonly kind: "pack";
  /** Number of the weight in the plan. */
  readonly weight: number;
  readonly firstRow: number;
  readonly rows: number;
  readonly rowOrder: RowOrder;
  /** Address of the bytes. */
  readonly staging: number;
}

/** Puts a thread's share of a job's rows from staging to their place. `firstRow` is a multiple of `rowUnit`. */
export function packShare(job: PackJob, { thread, threads, ...place }: Place): void {
  const { firstRow, rows, rowOrder, staging } = job;
  const planned = place.plan.weights[job.weight];
  const { format, columns, packer } = planned;
  const unit = rowUnit(rowOrder);
  const units = Math.ceil(rows / unit);
  const begin = Math.floor((units * thread) / threads) * unit;
  const end = Math.min(rows, Math.floor((units * (thread + 1)) / threads) * unit);
  const rowBytes = formatBytes(format, columns);
  const start = weightAt(place.map, planned);
  const [{ buffer }] = place.memories;
  const group = groupBytes(layouts[format], columns);
  const blocks = columns / formats[format].block;
  const pack = packer && (place.programs[packer] as Program);
  for (let row = begin; row < end; row++) {
    const from = staging + storedRow(rowOrder, row) * rowBytes;
    if (pack) {
      const to = start + Math.floor((firstRow + row) / groupRows) * group;
      pack(from, to, row % groupRows, blocks);
    } else {
      const to = start + 4 * (firstRow + row) * columns;
      const bytes = new Uint8Array(buffer, from, rowBytes);
      dequantize(format, bytes, new Float32Array(buffer, to, columns));
    }
  }
}
