import { InternalError, throwIfAborted } from "../../base/errors.ts";
import type { PlannedWeight } from "../../plan/plan.ts";
import { formatBytes } from "../../quant/formats.ts";
import type { WeightSegment, WeightSource } from "../device.ts";
import type { Heap } from "./memory-map.ts";
import { rowUnit } from "./pack.ts";
import type { PackJob } from "./protocol.ts";
import type { Team } from "./team.ts";

/** Bytes of a file that are read while the ones before are put in their place. */
const stagingBytes = 1 << 22;

export interface LoadProgress {
  /** Called with the bytes of the file that are in place, after each part. */
  readonly onBytes?: ((loaded: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

interface Part {
  readonly segment: WeightSegment;
  readonly job: Omit<PackJob, "staging">;
  readonly bytes: number;
}

/**
 * Reads all weights and puts them in their place: two parts in memory at a time, one being read by this thread while the team
 * packs the other.
 */
export async function loadWeights(
  weights: readonly PlannedWeight[],
  sources: readonly WeightSource[],
  memory: WebAssembly.Memory,
  heap: Heap,
  team: Team,
  { onBytes, signal }: LoadProgress,
): Promise<void> {
  const parts = weights.flatMap((weight, at) => partsOf(weight, at, sources));
  const total = parts.reduce((sum, part) => sum + part.bytes, 0);
  const size = Math.max(0, ...parts.map((part) => part.bytes));
  const staging = [heap.take(size, "loading"), heap.take(size, "loading")];
  let packing = Promise.resolve();
  let loaded = 0;
  try {
    for (const [at, { segment, job, bytes }] of parts.entries()) {
      throwIfAborted(signal);
      const place = staging[at % 2];
      await segment.read(job.firstRow, job.rows, new Uint8Array(memory.buffer, place, bytes));
      await packing;
      onBytes?.(loaded, total);
      packing = team.do({ kind: "pack", job: { ...job, staging: place } });
      loaded += bytes;
    }
  } finally {
    await packing;
    for (const place of staging) heap.release(place);
  }
  onBytes?.(loaded, total);
}

function partsOf(weight: PlannedWeight, at: number, sources: readonly WeightSource[]): Part[] {
  const segment = sources.find(({ name }) => name === weight.param)?.segments[weight.segment];
  if (segment === undefined)
    throw new InternalError("weight-source", `no data for ${weight.param}, part ${weight.segment}`);
  const headDim = segment.rowOrder.kind === "interleaved" ? segment.rowOrder.headDim : 0;
  const rowBytes = formatBytes(weight.format, weight.columns);
  const unit = rowUnit(headDim);
  const most = Math.max(unit, Math.floor(stagingBytes / rowBytes / unit) * unit);
  const parts: Part[] = [];
  for (let firstRow = 0; firstRow < weight.rows; firstRow += most) {
    const rows = Math.min(most, weight.rows - firstRow);
    parts.push({ segment, job: { weight: at, firstRow, rows, headDim }, bytes: rows * rowBytes });
  }
  return parts;
}
