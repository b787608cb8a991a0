import { availableParallelism } from "node:os";
import { mapMemory, planCache } from "../devices/wasm/memory-map.ts";
import type { Plan } from "../plan/plan.ts";

type Use = "weights" | "slots" | "arena" | "scratch" | "tables" | "total";
/** Bytes by use. */
export interface MemoryPlan extends Readonly<Record<Use, number>> {
  readonly threads: number;
  readonly cache: { readonly tokens: number; readonly pages: number; readonly bytes: number };
}

/** What a model takes on the device for one sequence of `tokens` tokens. */
export function planMemory(
  plan: Plan,
  tokens: number,
  threads: number = availableParallelism(),
): MemoryPlan {
  const map = mapMemory(plan, threads);
  const cache = planCache(plan.cache, tokens);
  const scratch = threads * map.scratchStride;
  return {
    weights: plan.weightBytes,
    slots: plan.slots.reduce((sum, slot) => sum + slot.bytes, 0),
    arena: Math.max(0, ...plan.functions.map(({ arenaBytes }) => arenaBytes)),
    threads,
    scratch,
    tables: map.end - map.scratch - scratch,
    cache: { tokens, ...cache },
    total: map.end + cache.bytes,
  };
}

export const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

export function showMemory({ threads, cache, ...memory }: MemoryPlan): string[] {
  const rows = {
    weights: memory.weights,
    "inputs and outputs": memory.slots,
    arena: memory.arena,
    [`scratch of ${threads} threads`]: memory.scratch,
    "step tables": memory.tables,
    [`cache of ${cache.tokens} tokens`]: cache.bytes,
    total: memory.total,
  };
  return Object.entries(rows).map(
    ([name, bytes]) => `${name.padEnd(26)}${mebibytes(bytes).padStart(14)}`,
  );
}
