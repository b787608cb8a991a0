import type { DimBindings } from "../../ir/dim.ts";
import type { RowOrder } from "../device.ts";

/** What all workers do together. */
export type Command = RunCommand | PackJob | { readonly kind: "stop" };

export interface RunCommand {
  readonly kind: "run";
  /** Names of functions of the plan, in order. */
  readonly functions: readonly string[];
  readonly sizes: DimBindings;
  /** Addresses of the cache in use, and of the page table, which moves as it grows. */
  readonly pages: number;
  readonly layerBytes: number;
  readonly pageTable: number;
  /** Pairs (from page, to page) that are copied in every layer before. */
  readonly copies: readonly number[];
  /** Whether threads note the times of their steps. */
  readonly isTimed: boolean;
}

/** Rows of a file that lie in staging memory, to be put in their place. */
export interface PackJob {
  readonly kind: "pack";
  /** Number of the weight in the plan. */
  readonly weight: number;
  readonly firstRow: number;
  readonly rows: number;
  readonly rowOrder: RowOrder;
  /** Address of the bytes. */
  readonly staging: number;
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
