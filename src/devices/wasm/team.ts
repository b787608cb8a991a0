import { Worker } from "node:worker_threads";
import { InternalError } from "../../base/errors.ts";
import { mailbox, writeCommand, type Command, type Reply, type WorkerData } from "./protocol.ts";

const workerFile = import.meta.url.endsWith(".ts") ? "./worker.ts" : "./worker.js";

/** Worker threads over one shared memory, which do each command together. The thread that gives commands never waits. */
export class Team implements AsyncDisposable {
  readonly #workers: readonly Worker[];
  readonly #mailbox: Int32Array;
  readonly #sizeNames: readonly string[];
  #waiting: PromiseWithResolvers<void> | undefined;
  #broken: Error | undefined;

  private constructor(workers: readonly Worker[], words: Int32Array, sizeNames: readonly string[]) {
    this.#workers = workers;
    this.#mailbox = words;
    this.#sizeNames = sizeNames;
    for (const worker of workers) {
      worker.on("message", (reply: Reply) => this.#hear(reply));
      worker.on("error", (error) => this.#fail(error));
    }
  }

  static async start(data: Omit<WorkerData, "thread" | "mailbox">): Promise<Team> {
    const words = new Int32Array(new SharedArrayBuffer(4 * mailbox.words));
    const workers = Array.from({ length: data.threads }, (_, thread) => {
      const workerData: WorkerData = { ...data, mailbox: words, thread };
      return new Worker(new URL(workerFile, import.meta.url), { workerData });
    });
    await Promise.all(
      workers.map(
        (worker) =>
          new Promise<void>((resolve, reject) => {
            worker.once("message", () => resolve());
            worker.once("error", reject);
          }),
      ),
    );
    for (const worker of workers) worker.unref();
    return new Team(workers, words, data.sizeNames);
  }

  /** All workers do the command; resolves when the last has finished. */
  do(command: Command): Promise<void> {
    if (this.#broken) throw this.#broken;
    if (this.#waiting) throw new InternalError("team", "a command was given before the last ended");
    this.#waiting = Promise.withResolvers<void>();
    for (const worker of this.#workers) worker.ref();
    this.#send(command);
    return this.#waiting.promise;
  }

  #send(command: Command): void {
    Atomics.store(this.#mailbox, mailbox.finished, 0);
    writeCommand(this.#mailbox, command, this.#sizeNames);
    Atomics.add(this.#mailbox, mailbox.turn, 1);
    Atomics.notify(this.#mailbox, mailbox.turn);
  }

  #hear(reply: Reply): void {
    switch (reply.kind) {
      case "ready":
        return;
      case "done":
        this.#waiting?.resolve();
        this.#waiting = undefined;
        for (const worker of this.#workers) worker.unref(); // an idle team keeps no process alive
        return;
      case "failed":
        return this.#fail(
          new InternalError("worker", `a worker failed: ${reply.message}\n${reply.stack}`),
        );
      default:
        return reply satisfies never;
    }
  }

  #fail(error: Error): void {
    this.#broken = error;
    this.#waiting?.reject(error);
    this.#waiting = undefined;
  }

  /** Waits for the command in progress, then ends the workers. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#waiting?.promise.catch(() => {});
    this.#send({ kind: "stop" });
    const ended = (worker: Worker): Promise<unknown> =>
      this.#broken
        ? worker.terminate()
        : new Promise((resolve) => {
            worker.ref();
            worker.once("exit", resolve);
          });
    await Promise.all(this.#workers.map(ended));
    this.#broken ??= new InternalError("team", "the workers have ended");
  }
}
