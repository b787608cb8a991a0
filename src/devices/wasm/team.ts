import { InternalError } from "../../base/errors.ts";
import type { Plan } from "../../plan/plan.ts";
import { Mailbox, type Command } from "./mailbox.ts";
import type { MemoryMap } from "./memory-map.ts";
import { startThread, type Thread } from "./thread.ts";

/** Steps of a run that can be timed. */
const mostSteps = 1 << 12;
/** A thread's share of the times. */
export const timeBytes: number = mostSteps * 3 * 8;

/** What a worker is born with. */
export interface WorkerData {
  readonly module: WebAssembly.Module;
  /** By number: the first has everything but weights that have one of their own. */
  readonly memories: readonly WebAssembly.Memory[];
  readonly mailbox: SharedArrayBuffer;
  /** [threads][mostSteps][3] f64: the times of a run whose steps are timed. */
  readonly times: SharedArrayBuffer;
  readonly plan: Pick<Plan, "functions" | "weights" | "cache">;
  readonly map: MemoryMap;
  readonly thread: number;
  readonly threads: number;
}
/** What a thread knows of the model, and which of the threads it is. */
export type Place = Pick<WorkerData, "plan" | "map" | "thread" | "threads" | "times">;

/** Worker threads over one shared memory, which do each command together. The thread that gives commands never waits. */
export class Team implements AsyncDisposable {
  readonly #workers: readonly Thread[];
  readonly #mailbox = new Mailbox();
  readonly #times: SharedArrayBuffer;
  #waiting: PromiseWithResolvers<void> | undefined;
  #broken: Error | undefined;

  constructor(data: Omit<WorkerData, "thread" | "mailbox" | "times">) {
    this.#times = new SharedArrayBuffer(data.threads * timeBytes);
    const times = this.#times;
    const mailbox = this.#mailbox.shared;
    this.#workers = Array.from({ length: data.threads }, (_, thread) => {
      const worker = startThread(
        { ...data, mailbox, times, thread },
        {
          done: () => this.#settle(),
          error: (what) => {
            this.#broken = new InternalError("worker", `a worker failed: ${what}`);
            this.#settle();
          },
        },
      );
      worker.hold(false); // an idle team keeps no process alive
      return worker;
    });
  }

  /** All workers do the command; resolves when the last has finished. */
  do(command: Command): Promise<void> {
    if (this.#broken) throw this.#broken;
    if (this.#waiting) throw new InternalError("team", "a command was given before the last ended");
    this.#waiting = Promise.withResolvers();
    this.#waiting.promise.catch(() => {}); // whoever gave the command may look at it later
    for (const worker of this.#workers) worker.hold(true);
    this.#mailbox.give(command);
    return this.#waiting.promise;
  }

  /** The notes of each thread: of each step three times (Runner). */
  times(steps: number): Float64Array[] {
    return this.#workers.map(
      (_, thread) => new Float64Array(this.#times, thread * timeBytes, 3 * steps),
    );
  }

  #settle(): void {
    if (this.#broken) this.#waiting?.reject(this.#broken);
    else this.#waiting?.resolve();
    this.#waiting = undefined;
    for (const worker of this.#workers) worker.hold(false);
  }

  /** Waits for the command in progress, then ends the workers. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#waiting?.promise.catch(() => {});
    for (const worker of this.#workers) worker.hold(true);
    const isBroken = this.#broken !== undefined;
    const ended = this.#workers.map((worker) => worker.end(isBroken));
    if (!isBroken) this.#mailbox.give({ kind: "stop" });
    await Promise.all(ended);
    this.#broken ??= new InternalError("team", "the workers have ended");
  }
}
