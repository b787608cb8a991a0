import { i32, i32x4, memory, v128, WasmModule } from "../../codegen/wasm/builder.ts";
import type { Plan } from "../../plan/plan.ts";
import { WasmModel } from "./device.ts";
import { importedMemory } from "./memory-map.ts";

/** A thread reads so many places side by side, as a mat-vec reads its rows. */
const streams = 4;
const unroll = 4;
const rounds = 8;
/** All threads together read so much a round, far more than caches hold: 64 MiB each, but within these bounds. */
const [leastBytes, mostBytes] = [2 ** 29, 2 ** 31];

const params = { arena: "i32", thread: "i32", threads: "i32", scratch: "i32" } as const;

/** Programs on `bytes` of each thread: `fill` writes them, `read` sums all vectors, so that none can be left out. */
function programs(bytes: number): WasmModule {
  const module = new WasmModule({ memory: importedMemory });
  const stream = bytes / streams;
  module.func("barrier", { state: "i32", threads: "i32" }, "void", () => {}); // no step needs another
  module.func("fill", params, "void", ({ arena, thread }, body) =>
    body.emit(memory.fill(i32.add(arena, i32.mul(thread, bytes)), 1, bytes)),
  );
  module.func("read", params, "void", ({ arena, thread, scratch }, body) => {
    const begin = body.local(i32.add(arena, i32.mul(thread, bytes)));
    const sums = Array.from({ length: streams }, () => body.local(i32x4.const([0, 0, 0, 0])));
    body.for(0, stream, 16 * unroll, (i) => {
      const at = body.local(i32.add(begin, i));
      sums.forEach((sum, n) => {
        for (let u = 0; u < unroll; u++)
          sum.set(i32x4.add(sum, v128.load(at, n * stream + 16 * u)));
      });
    });
    sums.forEach((sum, n) => body.emit(v128.store(scratch, sum, 16 * n)));
  });
  return module;
}

/** A model without weights, whose arena is what is read. */
function planOf(module: WasmModule, arenaBytes: number): Plan {
  const names = ["fill", "read"];
  const rows = { kind: "constant", value: 1 } as const;
  const args = [{ kind: "buffer", buffer: 0, offset: 0 }] as const;
  const place = { kind: "arena", offset: 0 } as const;
  const buffers = [{ name: "arena", bytes: arenaBytes, place }];
  const functions = names.map((name) => {
    const variants = [{ maxRows: 1, calls: [{ program: name, args }] }];
    const steps = [{ name, barrier: false, rows, variants }];
    return { name, buffers, steps, inputs: [], outputs: [], arenaBytes };
  });
  const none = { weights: [], weightBytes: 0, slots: [], cache: undefined };
  const code = { programs: names, scratchBytes: 16 * streams, module: module.toBytes() };
  return { ...none, ...code, functions };
}

/** Bytes a second that so many threads read from memory at once: the best of some rounds. Takes about a second. */
export async function measureBandwidth(threads: number): Promise<number> {
  const total = Math.min(mostBytes, Math.max(leastBytes, threads * 2 ** 26));
  const bytes = 2 ** Math.floor(Math.log2(total / threads)); // of each thread
  const plan = planOf(programs(bytes), threads * bytes);
  const model = await WasmModel.create(plan, [], { threads, cacheTokens: 0, revectorize: false });
  const run = (name: string): Promise<unknown> =>
    model.run({ functions: [name], sizes: {}, inputs: {}, outputs: [] });
  try {
    await run("fill"); // untouched pages would all be one page of zeros, in the cache
    let best = 0;
    for (let round = 0; round < rounds; round++) {
      const start = performance.now();
      await run("read");
      best = Math.max(best, (1000 * threads * bytes) / (performance.now() - start));
    }
    return best;
  } finally {
    await model.dispose();
  }
}
