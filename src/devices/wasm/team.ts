import { InternalError } from "../../base/errors.ts";
import { nodeModule } from "../../base/node.ts";
import type { Plan } from "../../plan/plan.ts";
import type { MemoryMap } from "./memory-map.ts";
import type { RunCommand } from "./runner.ts";
import type { PackJob } from "./weights.ts";

/** What a worker is born with. */
export interface WorkerData {
  readonly module: WebAssembly.Module;
  /** By number: the first has everything but weights that have one of their own. */
  readonly memories: readonly WebAssembly.Memory[];
  readonly mailbox: SharedArrayBuffer;
  /** The times of a run whose steps are timed, three of each; as long as all functions together. */
  readonly times: Float64Array;
  readonly plan: Pick<Plan, "functions" | "weights" | "cache">;
  readonly map: MemoryMap;
  readonly thread: number;
  readonly threads: number;
}
/** What a thread knows of the model, the programs that it runs, and which of the threads it is. */
export interface Place extends Omit<WorkerData, "module" | "mailbox"> {
  readonly programs: WebAssembly.Exports;
}

/** What all workers do together. */
export type Command = RunCommand | PackJob | { readonly kind: "stop" };

/** Worker threads over one shared memory, which do each command together. The thread that gives commands never waits. */
export class Team implements AsyncDisposable {
  readonly #workers: readonly ReturnType<typeof startThread>[];
  readonly #mailbox = new Mailbox();
  /** The notes of each thread: of each step of the last command three times (runner.ts). */
  readonly times: readonly Float64Array[];
  #waiting: PromiseWithResolvers<void> | undefined;
  #broken: Error | undefined;

  constructor(data: Omit<WorkerData, "thread" | "mailbox" | "times">) {
    const steps = data.plan.functions.reduce((sum, fn) => sum + fn.steps.length, 0);
    const bytes = 3 * steps * Float64Array.BYTES_PER_ELEMENT;
    const newTimes = (): Float64Array => new Float64Array(new SharedArrayBuffer(bytes));
    this.times = Array.from({ length: data.threads }, newTimes);
    const mailbox = this.#mailbox.shared;
    this.#workers = this.times.map((times, thread) =>
      startThread({ ...data, mailbox, times, thread }, (failure) => this.#settle(failure)),
    );
    this.#hold(false);
  }

  /** All workers do the command; resolves when the last has finished. */
  do(command: Command): Promise<void> {
    if (this.#broken) throw this.#broken;
    if (this.#waiting) throw new InternalError("team", "a command was given before the last ended");
    this.#waiting = Promise.withResolvers();
    this.#waiting.promise.catch(() => {}); // whoever gave the command may look at it later
    this.#hold(true);
    this.#mailbox.give(command);
    return this.#waiting.promise;
  }

  /** An idle team keeps no process alive. */
  #hold(on: boolean): void {
    for (const worker of this.#workers) worker.hold(on);
  }

  #settle(failure?: string): void {
    if (failure) this.#broken = new InternalError("worker", `a worker failed: ${failure}`);
    if (this.#broken) this.#waiting?.reject(this.#broken);
    else this.#waiting?.resolve();
    this.#waiting = undefined;
    this.#hold(false);
  }

  /** Waits for the command in progress, then ends the workers. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#waiting?.promise.catch(() => {});
    this.#hold(true);
    const isBroken = this.#broken !== undefined;
    const ended = this.#workers.map((worker) => worker.end(isBroken));
    if (!isBroken) this.#mailbox.give({ kind: "stop" });
    await Promise.all(ended);
    this.#broken ??= new InternalError("team", "the workers have ended");
  }
}

const file = import.meta.url.endsWith(".ts") ? "./worker.ts" : "./worker.js";

/**
 * A worker of Node, or of a browser. `settle` is called when all have done a command, or with what went wrong. `hold`: whether
 * it keeps the process alive; `end` ends it at once, or when it has taken the command to stop.
 */
function startThread(data: WorkerData, settle: (failure?: string) => void) {
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
    hold: (held: boolean) => (held ? worker.ref() : worker.unref()),
    end: (atOnce: boolean) => (atOnce ? worker.terminate() : once(worker, "exit")),
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

/** Words: how many commands have been given, how many workers have finished the last, and its bytes of JSON. */
const [turn, finished, length] = [0, 1, 2];
const headerBytes = 12;

/** Commands in memory that all threads share, so that a step costs no message to any worker. */
export class Mailbox {
  readonly shared: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #json: Uint8Array;
  #turn = 0;

  constructor(shared: SharedArrayBuffer = new SharedArrayBuffer(1 << 20)) {
    this.shared = shared;
    this.#words = new Int32Array(shared, 0, headerBytes / 4);
    this.#json = new Uint8Array(shared, headerBytes);
  }

  /** Gives all workers a command, which wakes them; each has finished the one before. */
  give(command: Command): void {
    const json = new TextEncoder().encode(JSON.stringify(command));
    this.#json.set(json);
    this.#words[length] = json.length;
    Atomics.store(this.#words, finished, 0);
    Atomics.add(this.#words, turn, 1);
    Atomics.notify(this.#words, turn);
  }

  /** Sleeps until there is a command after the last one taken. */
  take(): Command {
    Atomics.wait(this.#words, turn, this.#turn);
    this.#turn = Atomics.load(this.#words, turn);
    const json = this.#json.slice(0, this.#words[length]); // TextDecoder takes no shared memory
    return JSON.parse(new TextDecoder().decode(json)) as Command;
  }

  /** Counts a worker that has done the command; how many have. */
  finish(): number {
    return Atomics.add(this.#words, finished, 1) + 1;
  }
}
