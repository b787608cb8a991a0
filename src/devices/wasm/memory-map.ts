import { ResourceError } from "../../base/errors.ts";
import type { MemoryLimits } from "../../codegen/wasm/module.ts";
import { tableNames, type CachePlan, type Plan, type TableName } from "../../plan/plan.ts";
import { pagesFor } from "../../quant/kv-page.ts";

/**
 * Where everything lies in the one shared memory: control words, weights, input/output slots, arena, scratch of each thread,
 * step tables; then, allocated as needed, caches, page tables and staging.
 */
export interface MemoryMap {
  readonly barrier: number;
  readonly weights: number;
  readonly slots: Readonly<Record<string, number>>;
  readonly arena: number;
  readonly scratch: number;
  readonly scratchStride: number;
  readonly tables: Readonly<Record<TableName, number>>;
  readonly end: number;
}
export const wasmPage = 65536;
export const mostBytes: number = 65536 * wasmPage;
const unit = 64;
const align = (bytes: number): number => Math.ceil(bytes / unit) * unit;

export function mapMemory(plan: Plan, threads: number): MemoryMap {
  let next = 1024;
  const take = (bytes: number): number => {
    const at = next;
    next = align(next + bytes);
    return at;
  };
  const weights = take(plan.weightBytes);
  const slots = Object.fromEntries(
    plan.slots.map(({ name, bytes }) => [name, take(bytes)] as const),
  );
  const arena = take(Math.max(0, ...plan.functions.map(({ arenaBytes }) => arenaBytes)));
  const scratchStride = align(plan.scratchBytes) + unit;
  const scratch = take(scratchStride * threads);
  const { maxRows, headDim } = plan.cache ?? { maxRows: 0, headDim: 0 };
  const tables = Object.fromEntries(
    tableNames.map(
      (name) => [name, take(4 * maxRows * (name.endsWith("Angles") ? headDim : 1))] as const,
    ),
  ) as Record<TableName, number>;
  return { barrier: 0, weights, slots, arena, scratch, scratchStride, tables, end: next };
}

function tooLarge(what: string, end: number): ResourceError {
  const advice =
    "lower the context (--context) or the chunk (--chunk), or choose a smaller cache type (--kv f16 or q8)";
  return new ResourceError(
    "wasm-memory",
    `${what} needs ${(end / 2 ** 20).toFixed(0)} MiB in all, more than one WebAssembly memory holds here; ${advice}`,
    { bytes: end },
  );
}

/** A memory of at least `end` bytes. Errors: ResourceError where that is more than there is. */
export function createMemory(limits: MemoryLimits, end: number): WebAssembly.Memory {
  if (end > mostBytes) throw tooLarge("the model", end);
  try {
    return new WebAssembly.Memory({ ...limits, initial: Math.ceil(end / wasmPage) });
  } catch {
    throw tooLarge("the model", end);
  }
}

/** What the cache takes for one sequence of `tokens` tokens; nothing for a model without one. */
export function planCache(
  cache: CachePlan | undefined,
  tokens: number,
): { pages: number; bytes: number } {
  if (cache === undefined) return { pages: 0, bytes: 0 };
  const pages = pagesFor(tokens, 1, cache.pageTokens);
  return { pages, bytes: pages * cache.layers * cache.pageBytes };
}

/** First fit over the memory beyond the map; the memory grows as needed. */
export class Heap {
  readonly #memory: WebAssembly.Memory;
  readonly #start: number;
  readonly #blocks: { at: number; bytes: number }[] = [];

  constructor(memory: WebAssembly.Memory, start: number) {
    this.#memory = memory;
    this.#start = start;
  }

  /** Address of `bytes` zero or stale bytes, aligned to 64. Errors: ResourceError beyond what a memory can hold. */
  take(bytes: number, what: string): number {
    const size = align(bytes);
    let at = this.#start;
    let index = 0;
    for (; index < this.#blocks.length; index++) {
      const block = this.#blocks[index];
      if (at + size <= block.at) break;
      at = block.at + block.bytes;
    }
    this.#ensure(at + size, what);
    this.#blocks.splice(index, 0, { at, bytes: size });
    return at;
  }

  release(at: number): void {
    const index = this.#blocks.findIndex((block) => block.at === at);
    if (index >= 0) this.#blocks.splice(index, 1);
  }

  #ensure(end: number, what: string): void {
    const missing = end - this.#memory.buffer.byteLength;
    if (missing <= 0) return;
    if (end > mostBytes) throw tooLarge(what, end);
    try {
      this.#memory.grow(Math.ceil(missing / wasmPage));
    } catch {
      throw tooLarge(what, end);
    }
  }
}
