import { parentPort, workerData } from "node:worker_threads";
import { InternalError } from "../../base/errors.ts";
import type { BandwidthData, Span } from "./bandwidth.ts";

/** One thread of the bandwidth measurement: it reads a memory of its own, round after round. */
const { module, bytes, round } = workerData as BandwidthData;
const port = parentPort;
if (port === null) throw new InternalError("worker", "this file runs as a worker only");

const pages = bytes / 65536;
const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
new Uint8Array(memory.buffer).fill(1); // untouched pages would all be one page of zeros, in the cache
const { exports } = new WebAssembly.Instance(module, { env: { memory } });
const read = exports.read as () => number;
const now = (): number => performance.timeOrigin + performance.now();
const reply = (span: Span): void => port.postMessage(span);

for (let done = 0; ; done++) {
  Atomics.wait(round, 0, done);
  const start = now();
  read();
  reply({ start, end: now() });
}
