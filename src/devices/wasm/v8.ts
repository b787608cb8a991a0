import { nodeModule } from "../../base/node.ts";
import { f32x4, i16x8, i32, i32x4, integers, v128 } from "../../codegen/wasm/builder.ts";
import { WasmModule } from "../../codegen/wasm/module.ts";

/** Flags of V8 while a module is compiled, and after; the last where vectors are to be joined. */
const flags = [
  ["--no-liftoff", "--liftoff"],
  ["--no-wasm-lazy-compilation", "--wasm-lazy-compilation"],
  ["--experimental-wasm-revectorize", "--no-experimental-wasm-revectorize"],
] as const;

/**
 * A module whose functions are all optimised at once (the bundled model: 20 ms on two cores), so that the first prompt does not
 * run in baseline code; with `revectorize`, pairs of 128-bit operations become one of 256 bits. The flags are the process's, so
 * they are put back before anything else runs. In a browser, and on an engine that is not V8, there are none.
 */
export function compileOptimised(bytes: BufferSource, revectorize: boolean): WebAssembly.Module {
  if (nodeModule === undefined) return new WebAssembly.Module(bytes);
  const { setFlagsFromString } = nodeModule("node:v8");
  const pairs = revectorize ? flags : flags.slice(0, -1);
  const set = (flag: string): void => {
    try {
      setFlagsFromString(flag);
    } catch {} // Bun has no flags
  };
  for (const [during] of pairs) set(during);
  try {
    return new WebAssembly.Module(bytes);
  } finally {
    for (const [during, after] of pairs) set(process.execArgv.includes(during) ? during : after);
  }
}

const vectors = 1024;
const rounds = 24;

/**
 * What a mat-vec does with pairs of vectors, again and again: integers are added, widened and scaled. V8 compiles the same bytes
 * once, so the function's name differs.
 */
function sampleModule(name: string): Uint8Array<ArrayBuffer> {
  const module = new WasmModule({ memory: { initial: 1, maximum: 1, shared: false } });
  module.func(name, integers("x y"), "void", ({ x, y }, body) => {
    const sums = Array.from({ length: 8 }, () => body.local(f32x4.const(0)));
    body.for(x, i32.add(x, 16 * vectors), 16 * sums.length, (at) =>
      sums.forEach((sum, v) => {
        const pairs = body.local(v128.load(at, 16 * v));
        const wide = i32x4.extadd_pairwise_i16x8_s(i16x8.add(pairs, i16x8.shr_u(pairs, 4)));
        sum.set(f32x4.add(sum, f32x4.mul(v128.load32_splat(x), f32x4.convert_i32x4_s(wide))));
      }),
    );
    sums.forEach((sum, v) => body.emit(v128.store(y, sum, 16 * v)));
  });
  return module.toBytes();
}

/** Whether V8's revectorisation gives the same bits here, and sooner. Takes about 10 ms. */
export function tryRevectorize(): { readonly on: boolean; readonly reason: string } {
  if (nodeModule === undefined)
    return { on: false, reason: "V8's revectorisation cannot be switched on in a browser" };
  const samples = [false, true].map((revectorize) => {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
    const data = new Uint8Array(memory.buffer);
    for (let i = 0; i < 16 * vectors; i++) data[i] = (i * 167) & 63;
    const name = revectorize ? "pairs" : "plain";
    const module = compileOptimised(sampleModule(name), revectorize);
    const { exports } = new WebAssembly.Instance(module, { env: { memory } });
    return { run: exports[name] as (x: number, y: number) => void, data, ms: Infinity };
  });
  for (let round = 0; round < rounds; round++)
    for (const sample of samples) {
      const start = performance.now();
      for (let n = 0; n < 8; n++) sample.run(0, 16 * vectors);
      sample.ms = Math.min(sample.ms, performance.now() - start);
    }
  const [plain, pairs] = samples;
  if (plain.data.some((byte, at) => byte !== pairs.data[at]))
    return { on: false, reason: "V8's revectorisation changes results here" };
  const speed = plain.ms / pairs.ms;
  const reason = `V8's revectorisation gives the same bits, ${speed.toFixed(2)} times as fast`;
  return { on: speed > 1.1, reason };
}
