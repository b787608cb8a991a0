import { i16x8, i32, i32x4, integers, memory, v128 } from "../../codegen/wasm/builder.ts";
import { WasmModule, type V128 } from "../../codegen/wasm/builder.ts";
import type { DotKind } from "../../codegen/wasm/features.ts";
import type { Plan } from "../../plan/plan.ts";
import { WasmModel } from "./device.ts";
import { importedMemory } from "./memory-map.ts";
import { probeFeatures } from "./probe.ts";

/** What a machine gives to WebAssembly on some threads at once; the best of some rounds. */
export interface Roofs {
  /** Read from memory. */
  readonly bytesPerSecond: number;
  /** Multiply-adds of the int8 dot that kernels use, in registers and the nearest cache. */
  readonly macsPerSecond: number;
}

/** A thread reads so many places side by side, as a mat-vec reads its rows. */
const streams = 4;
const unroll = 4;
const rounds = 8;
/** All threads together read so much a round, far more than caches hold: 64 MiB each, but within these bounds. */
const [leastBytes, mostBytes] = [2 ** 29, 2 ** 31];
/** Dots a round and thread: `chains` sums that do not wait for each other. */
const [chains, dots] = [12, 60_000_000];
/** How a dot of x and w is added to a sum, and how many products it adds; pairs need widening at times, which a roof leaves out. */
const ways: Readonly<Record<DotKind, { readonly macs: number; readonly add: Dot }>> = {
  relaxed: { macs: 16, add: (x, w, sum) => i32x4.relaxed_dot_i8x16_i7x16_add_s(x, w, sum) },
  pairs: { macs: 16, add: (x, w, sum) => i16x8.add(sum, i16x8.relaxed_dot_i8x16_i7x16_s(x, w)) },
  words: { macs: 8, add: (x, w, sum) => i32x4.add(sum, i32x4.dot_i16x8_s(x, w)) },
};
type Dot = (x: V128, w: V128, sum: V128) => V128;

/** Programs on `bytes` of each thread: `fill` writes them, `read` sums all vectors, so that none can be left out; `dot`. */
function programs(bytes: number, add: Dot): WasmModule {
  const module = new WasmModule({ memory: importedMemory });
  const stream = bytes / streams;
  const params = integers("arena thread threads scratch");
  module.func("barrier", integers("threads"), "void", () => {}); // no step needs another
  module.func("fill", params, "void", ({ arena, thread }, body) =>
    body.emit(memory.fill(i32.add(arena, i32.mul(thread, bytes)), 1, bytes)),
  );
  module.func("read", params, "void", ({ arena, thread, scratch }, body) => {
    const begin = body.local(i32.add(arena, i32.mul(thread, bytes)));
    const sums = Array.from({ length: streams }, () => body.local(i32x4.const(0)));
    body.for(0, stream, 16 * unroll, (i) => {
      const at = body.local(i32.add(begin, i));
      sums.forEach((sum, n) => {
        for (let u = 0; u < unroll; u++)
          sum.set(i32x4.add(sum, v128.load(at, n * stream + 16 * u)));
      });
    });
    sums.forEach((sum, n) => body.emit(v128.store(scratch, sum, 16 * n)));
  });
  module.func("dot", params, "void", ({ scratch }, body) => {
    const x = body.local(v128.load32_splat(scratch));
    const sums = Array.from({ length: chains }, () => body.local(i32x4.const(0)));
    body.for(0, dots / chains, 1, (i) => {
      const at = body.local(i32.add(scratch, i32.shl(i32.and(i, 15), 5)));
      sums.forEach((sum, n) => sum.set(add(x, v128.load(at, 16 * n), sum)));
    });
    sums.forEach((sum, n) => body.emit(v128.store(scratch, sum, 16 * n)));
  });
  return module;
}

/** A model without weights, whose one slot is what is read. */
function planOf(module: WasmModule, bytes: number): Plan {
  const programs = ["fill", "read", "dot"];
  const rows = { kind: "constant", value: 1 } as const;
  const args = [{ kind: "buffer", buffer: 0, offset: 0 }] as const;
  const slot = { name: "arena", bytes };
  const buffers = [{ ...slot, place: { kind: "slot" } as const }];
  const outputs = [{ name: "arena", elements: rows, width: 1 }];
  const functions = programs.map((name) => {
    const variants = [{ maxRows: 1, calls: [{ program: name, args }] }];
    const steps = [{ name, barrier: false, rows, variants }];
    return { name, buffers, steps, outputs, arenaBytes: 0 };
  });
  const none = { weights: [], weightBytes: [0], slots: [slot], cache: undefined };
  return { ...none, functions, programs, scratchBytes: 1024, module: module.toBytes() };
}

/** Measures them. Takes about a second. */
export async function measureRoofs(threads: number): Promise<Roofs> {
  const { dot, revectorize } = probeFeatures({ mayRevectorize: true });
  const { macs, add } = ways[dot];
  const total = Math.min(mostBytes, Math.max(leastBytes, threads * 2 ** 26));
  const bytes = 2 ** Math.floor(Math.log2(total / threads)); // of each thread
  const plan = planOf(programs(bytes, add), threads * bytes);
  const options = { sources: [], threads, cacheTokens: 0, revectorize };
  await using model = await WasmModel.create(plan, options);
  const run = (name: string): Promise<unknown> =>
    model.run({ functions: [name], sizes: {}, inputs: {}, output: "arena" });
  /** Milliseconds of the best round. */
  const best = async (name: string): Promise<number> => {
    let least = Infinity;
    for (let round = 0; round < rounds; round++) {
      const start = performance.now();
      await run(name);
      least = Math.min(least, performance.now() - start);
    }
    return least;
  };
  await run("fill"); // untouched pages would all be one page of zeros, in the cache
  const bytesPerSecond = (1000 * threads * bytes) / (await best("read"));
  const macsPerSecond = (1000 * threads * dots * macs) / (await best("dot"));
  return { bytesPerSecond, macsPerSecond };
}
