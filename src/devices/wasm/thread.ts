import { nodeModule } from "../../base/node.ts";
import type { WorkerData } from "./team.ts";

const file = import.meta.url.endsWith(".ts") ? "./worker.ts" : "./worker.js";

/** A worker of Node, or of a browser. */
export interface Thread {
  /** Whether it keeps the process alive. */
  hold(on: boolean): void;
  /** Ends it: at once, or when it has taken the command to stop. */
  end(atOnce: boolean): Promise<unknown>;
}

/** `settle` is called when all threads have done a command, or with what went wrong. */
export function startThread(data: WorkerData, settle: (failure?: string) => void): Thread {
  const url = new URL(file, import.meta.url);
  if (nodeModule === undefined) {
    const worker = new Worker(url, { type: "module" });
    worker.addEventListener("message", () => settle());
    worker.addEventListener("error", ({ message }) => settle(message || `${url.href} not loaded`));
    worker.postMessage(data);
    return { hold() {}, end: async () => worker.terminate() }; // stopped or not, it is idle
  }
  const { once } = nodeModule("node:events");
  const worker = new (nodeModule("node:worker_threads").Worker)(url, { workerData: data });
  worker.on("message", () => settle());
  worker.on("error", ({ message, stack }) => settle(`${message}\n${stack}`));
  return {
    hold: (held) => (held ? worker.ref() : worker.unref()),
    end: (atOnce) => (atOnce ? worker.terminate() : once(worker, "exit")),
  };
}

/** In a worker: what it was started with, and how it says that all have done a command. */
export async function thisThread(): Promise<{ readonly data: WorkerData; done(): void }> {
  const node = nodeModule?.("node:worker_threads");
  if (node) return { data: node.workerData, done: () => node.parentPort?.postMessage("done") };
  const { data } = await new Promise<MessageEvent<WorkerData>>((resolve) =>
    addEventListener("message", resolve, { once: true }),
  );
  return { data, done: () => postMessage("done") };
}
