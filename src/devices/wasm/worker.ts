import { parentPort, workerData } from "node:worker_threads";
import { InternalError, messageOf } from "../../base/errors.ts";
import { pack } from "./pack.ts";
import type { Reply, Request, WorkerData } from "./protocol.ts";
import { Runner } from "./runner.ts";

/** One thread of the team: it waits for requests and runs its share of them. */
const { module, memory, plan, map, thread, threads } = workerData as WorkerData;
const port = parentPort;
if (port === null) throw new InternalError("worker", "this file runs as a worker only");

const { exports } = new WebAssembly.Instance(module, { env: { memory } });
const runner = new Runner(exports, plan, map, { thread, threads });
const reply = (message: Reply): void => port.postMessage(message);

function handle(request: Request): void {
  switch (request.kind) {
    case "run": {
      const { copies, binding, functions } = request;
      if (copies) runner.copyPages(copies.pairs, binding, copies.layers, copies.pageBytes, threads);
      runner.run(functions, binding);
      return;
    }
    case "pack":
      return pack(memory, map.weights, request.job);
    default:
      return request satisfies never;
  }
}

port.on("message", (request: Request) => {
  try {
    handle(request);
    reply({ kind: "done" });
  } catch (error) {
    const stack = error instanceof Error ? (error.stack ?? "") : "";
    reply({ kind: "failed", message: messageOf(error), stack });
  }
});
reply({ kind: "ready" });
