import { Worker } from "node:worker_threads";
import { i32x4, v128, WasmModule } from "../../codegen/wasm/builder.ts";

/** What a worker is born with. */
export interface BandwidthData {
  readonly module: WebAssembly.Module;
  readonly bytes: number;
  /** [1] i32, shared: number of the round, from 1; a worker waits for the next. */
  readonly round: Int32Array;
}
/** When a worker began and ended reading, in ms since 1970. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** A thread reads so many places side by side, as a mat-vec reads its rows. */
const streams = 4;
const unroll = 4;
const rounds = 8;
/** All threads together read so much a round, far more than caches hold; each at least 64 MiB. */
const totalBytes = 1 << 29;
const leastBytes = 1 << 26;

const workerFile = import.meta.url.endsWith(".ts")
  ? "./bandwidth-worker.ts"
  : "./bandwidth-worker.js";

/** Sums all vectors of [0, bytes), so that none can be left out. */
function readerModule(bytes: number): WasmModule {
  const pages = bytes / 65536;
  const module = new WasmModule({ memory: { initial: pages, maximum: pages, shared: false } });
  const stream = bytes / streams;
  module.func("read", {}, "i32", (_, body) => {
    const sums = Array.from({ length: streams }, () => body.local(i32x4.const([0, 0, 0, 0])));
    body.for(0, stream, 16 * unroll, (i) =>
      sums.forEach((sum, at) => {
        for (let u = 0; u < unroll; u++)
          sum.set(i32x4.add(sum, v128.load(i, at * stream + 16 * u)));
      }),
    );
    const all = sums
      .slice(1)
      .reduce((a, b) => i32x4.add(a, b), i32x4.add(sums[0], i32x4.const([0, 0, 0, 0])));
    body.return(i32x4.extract_lane(all, 0));
  });
  return module;
}

/** Bytes a second that so many threads read from memory at once: the best of some rounds. Takes about a second. */
export async function measureBandwidth(threads: number): Promise<number> {
  const bytes = Math.max(leastBytes, 2 ** Math.floor(Math.log2(totalBytes / threads)));
  const module = await WebAssembly.compile(readerModule(bytes).toBytes());
  const round = new Int32Array(new SharedArrayBuffer(4));
  const workerData: BandwidthData = { module, bytes, round };
  const workers = Array.from(
    { length: threads },
    () => new Worker(new URL(workerFile, import.meta.url), { workerData }),
  );
  try {
    let best = 0;
    for (let n = 0; n < rounds; n++) {
      const reading = Promise.all(workers.map(nextSpan));
      Atomics.add(round, 0, 1);
      Atomics.notify(round, 0);
      const spans = await reading;
      const start = Math.min(...spans.map((span) => span.start));
      const end = Math.max(...spans.map((span) => span.end));
      best = Math.max(best, (1000 * threads * bytes) / (end - start));
    }
    return best;
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

function nextSpan(worker: Worker): Promise<Span> {
  const { promise, resolve, reject } = Promise.withResolvers<Span>();
  worker.once("message", resolve);
  worker.once("error", reject);
  return promise.finally(() => worker.off("error", reject));
}
