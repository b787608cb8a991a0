import { ResourceError } from "../../base/errors.ts";
import type { MemoryLimits } from "../../codegen/wasm/module.ts";
import { align, controlWords, tableNames } from "../../plan/plan.ts";
import type { Plan, TableName } from "../../plan/plan.ts";
import { pagesFor } from "../../quant/kv-page.ts";

/**
 * Where everything lies in the one shared memory: control words, weights, input/output slots, arena, scratch of each thread,
 * step tables; then, allocated as needed, caches, page tables and staging.
 */
export interface MemoryMap {
  readonly weights: number;
  readonly slots: Readonly<Record<string, number>>;
  readonly arena: number;
  readonly scratch: number;
  readonly scratchStride: number;
  readonly tables: Readonly<Record<TableName, number>>;
  readonly end: number;
}

/** The memory that a compiled module imports: its size is known only after planning. */
export const importedMemory: MemoryLimits = { initial: 1, maximum: 65536, shared: true };
export const wasmPage = 65536;
export const mostBytes: number = importedMemory.maximum * wasmPage;

export function mapMemory(plan: Plan, threads: number): MemoryMap {
  let end: number = controlWords.end;
  const take = (bytes: number): number => {
    const at = end;
    end = align(end + bytes);
    return at;
  };
  const weights = take(plan.weightBytes[0]);
  const slots = Object.fromEntries(plan.slots.map(({ name, bytes }) => [name, take(bytes)]));
  const arena = take(Math.max(0, ...plan.functions.map(({ arenaBytes }) => arenaBytes)));
  const scratchStride = align(plan.scratchBytes) + 64;
  const scratch = take(scratchStride * threads);
  const { maxRows, headDim } = plan.cache ?? { maxRows: 0, headDim: 0 };
  const tables = {} as Record<TableName, number>;
  for (const name of tableNames)
    tables[name] = take(4 * maxRows * (name.endsWith("Angles") ? headDim : 1));
  return { weights, slots, arena, scratch, scratchStride, tables, end };
}

/** What the cache takes for one sequence of `tokens` tokens; nothing for a model without one. */
export function planCache({ cache }: Plan, tokens: number): Record<"pages" | "bytes", number> {
  if (cache === undefined) return { pages: 0, bytes: 0 };
  const pages = pagesFor(tokens, 1, cache.pageTokens);
  return { pages, bytes: pages * cache.layers * cache.pageBytes };
}

/** The shared memory: first what the map says, beyond it what is taken, first fit. It grows as needed. */
export class Heap {
  readonly map: MemoryMap;
  readonly memory: WebAssembly.Memory;
  /** `memory`, and those that hold nothing but weights. */
  readonly memories: readonly WebAssembly.Memory[];
  /** In order of their addresses. */
  #blocks: { at: number; bytes: number }[] = [];

  /** Errors: ResourceError beyond what a memory can hold. */
  constructor(map: MemoryMap, weightBytes: readonly number[]) {
    this.map = map;
    this.memories = [map.end, ...weightBytes.slice(1)].map((bytes) => grown("the model", bytes));
    [this.memory] = this.memories;
  }

  /** Address of `bytes` zero or stale bytes, aligned to 64. Errors: ResourceError beyond what a memory can hold. */
  take(bytes: number, what: string): number {
    const size = align(Math.max(1, bytes)); // so that no two blocks have one address
    const ends = [this.map.end, ...this.#blocks.map((block) => block.at + block.bytes)];
    const index = ends.findIndex((end, n) => end + size <= (this.#blocks[n]?.at ?? Infinity));
    const at = ends[index];
    grown(what, at + size, this.memory);
    this.#blocks.splice(index, 0, { at, bytes: size });
    return at;
  }

  release(at: number): void {
    this.#blocks = this.#blocks.filter((block) => block.at !== at);
  }

  bytes(at: number, length: number): Uint8Array {
    return new Uint8Array(this.memory.buffer, at, length);
  }

  write(at: number, values: Int32Array | Float32Array): void {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    this.bytes(at, bytes.length).set(bytes);
  }
}

/** A memory, or a new one, that has at least so many bytes. */
function grown(what: string, bytes: number, given?: WebAssembly.Memory): WebAssembly.Memory {
  try {
    const memory = given ?? new WebAssembly.Memory(importedMemory);
    const missing = bytes - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / wasmPage));
    return memory;
  } catch (cause) {
    const mebibytes = (bytes / 2 ** 20).toFixed(0);
    const message = `${what} needs ${mebibytes} MiB in all, more than one WebAssembly memory holds here; lower the context (--context) or the chunk (--chunk), or choose a smaller cache type (--kv f16 or q8)`;
    throw new ResourceError("wasm-memory", message, { bytes }, { cause });
  }
}
