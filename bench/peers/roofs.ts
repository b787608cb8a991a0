/** What this machine gives to WebAssembly: bytes a second from memory, and int8 multiply-adds a second in registers. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { i16x8, i32, i32x4, v128, WasmModule } from "../../src/codegen/wasm/builder.ts";
import type { Expr } from "../../src/codegen/wasm/builder.ts";
import { measureBandwidth } from "../../src/devices/wasm/bandwidth.ts";

export interface Roofs {
  readonly threads: number;
  readonly gigabytes: number;
  readonly gigamacs: number;
}

const chains = 12;
const macs = 16; // of one dot of two vectors
const limits = { initial: 1, maximum: 1, shared: false } as const;
const zero = [0, 0, 0, 0] as const;

/** Ways to add the dot of x and w to sums; pairs need widening at times, which a roof may leave out. */
type Dot = (x: Expr<"v128">, w: Expr<"v128">, sum: Expr<"v128">) => Expr<"v128">;
const dots: readonly Dot[] = [
  (x, w, sum) => i32x4.relaxed_dot_i8x16_i7x16_add_s(x, w, sum),
  (x, w, sum) => i16x8.add(sum, i16x8.relaxed_dot_i8x16_i7x16_s(x, w)),
];

/**
 * Independent chains; the second operands come from the nearest cache, or nothing would be left to compute in the loop. Sums
 * are stored side by side, where V8's revectoriser begins.
 */
function dotModule(dot: Dot): Uint8Array<ArrayBuffer> {
  const module = new WasmModule({ memory: limits });
  module.func("run", { rounds: "i32" }, "void", ({ rounds }, body) => {
    const x = body.local(v128.load32_splat(i32.const(0)));
    const sums = Array.from({ length: chains }, () => body.local(i32x4.const(zero)));
    body.for(0, rounds, 1, (i) => {
      const at = body.local(i32.shl(i32.and(i, 15), 5));
      sums.forEach((sum, chain) => sum.set(dot(x, v128.load(at, 512 + 16 * chain), sum)));
    });
    sums.forEach((sum, chain) => body.emit(v128.store(i32.const(64 + 16 * chain), sum)));
  });
  return module.toBytes();
}

/** GMAC/s of the best of the dots and of some tries, in this process. */
function measureDots(): number {
  const rounds = 4_000_000;
  let best = 0;
  for (const dot of dots) {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
    const module = new WebAssembly.Module(dotModule(dot));
    const run = new WebAssembly.Instance(module, { env: { memory } }).exports.run as (
      rounds: number,
    ) => void;
    for (let tries = 0; tries < 8; tries++) {
      const start = performance.now();
      run(rounds);
      best = Math.max(best, (rounds * chains * macs) / (performance.now() - start) / 1e6);
    }
  }
  return best;
}

/** So many processes at once, with V8 as it is and with its revectoriser; the better sum. */
async function measureDotsOn(threads: number): Promise<number> {
  let best = 0;
  for (const execArgv of [[], ["--experimental-wasm-revectorize"]]) {
    const children = Array.from({ length: threads }, () =>
      fork(import.meta.filename, ["measure"], { execArgv }),
    );
    const rates = await Promise.all(
      children.map(async (child) => (await once(child, "message"))[0]),
    );
    best = Math.max(
      best,
      rates.reduce((sum, rate) => sum + Number(rate), 0),
    );
  }
  return best;
}

export async function measureRoofs(threads: number): Promise<Roofs> {
  const gigabytes = (await measureBandwidth(threads)) / 1e9;
  return { threads, gigabytes, gigamacs: await measureDotsOn(threads) };
}

if (import.meta.main && process.argv[2] === "measure") process.send?.(measureDots());
