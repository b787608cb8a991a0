import type { Plan } from "../../plan/plan.ts";
import type { MemoryMap } from "./memory-map.ts";
import type { Binding } from "./runner.ts";

/** What a worker is born with. */
export interface WorkerData {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly mailbox: Int32Array;
  readonly plan: Pick<Plan, "functions" | "weights">;
  readonly map: MemoryMap;
  readonly sizeNames: readonly string[];
  readonly thread: number;
  readonly threads: number;
}

/** Rows of a file that lie in staging memory, to be put in their place. */
export interface PackJob {
  /** Number of the weight in the plan. */
  readonly weight: number;
  readonly firstRow: number;
  readonly rows: number;
  /** Rows of each head are interleaved in the file; 0 where rows lie in order. */
  readonly headDim: number;
  /** Address of the bytes. */
  readonly staging: number;
}

/** What all workers do together. Commands are integers in a shared mailbox, so that a step costs no message to any worker. */
export type Command =
  | {
      readonly kind: "run";
      /** Numbers of functions of the plan, in order. */
      readonly functions: readonly number[];
      readonly binding: Binding;
      readonly copies: CopyPages | undefined;
    }
  | { readonly kind: "pack"; readonly job: PackJob }
  | { readonly kind: "stop" };

/** Pairs (from page, to page) at an address, copied in every layer. */
export interface CopyPages {
  readonly at: number;
  readonly count: number;
  readonly layers: number;
  readonly pageBytes: number;
}

export type Reply =
  | { readonly kind: "ready" }
  | { readonly kind: "done" }
  | { readonly kind: "failed"; readonly message: string; readonly stack: string };

/** Words of the mailbox: how many commands have been given, how many workers have finished the last, then the command. */
export const mailbox = { turn: 0, finished: 1, command: 2, words: 64 } as const;
const kinds = ["run", "pack", "stop"] as const;

export function writeCommand(
  words: Int32Array,
  command: Command,
  sizeNames: readonly string[],
): void {
  const values = [kinds.indexOf(command.kind)];
  switch (command.kind) {
    case "run": {
      const { functions, binding, copies } = command;
      const { pages, layerBytes, pageTable, sizes } = binding;
      values.push(pages, layerBytes, pageTable);
      values.push(copies?.at ?? 0, copies?.count ?? 0, copies?.layers ?? 0, copies?.pageBytes ?? 0);
      values.push(...sizeNames.map((name) => sizes[name] ?? 0), functions.length, ...functions);
      break;
    }
    case "pack": {
      const { weight, firstRow, rows, headDim, staging } = command.job;
      values.push(weight, firstRow, rows, headDim, staging);
      break;
    }
    case "stop":
      break;
    default:
      command satisfies never;
  }
  words.set(values, mailbox.command);
}

export function readCommand(words: Int32Array, sizeNames: readonly string[]): Command {
  let at: number = mailbox.command;
  const next = (): number => words[at++];
  const address = (): number => next() >>> 0;
  const kind = kinds[next()];
  switch (kind) {
    case "run": {
      const place = { pages: address(), layerBytes: address(), pageTable: address() };
      const copies = { at: address(), count: next(), layers: next(), pageBytes: next() };
      const sizes = Object.fromEntries(sizeNames.map((name) => [name, next()] as const));
      const functions = Array.from({ length: next() }, next);
      const binding = { ...place, sizes };
      return { kind, functions, binding, copies: copies.count > 0 ? copies : undefined };
    }
    case "pack": {
      const rows = { weight: next(), firstRow: next(), rows: next() };
      return { kind, job: { ...rows, headDim: next(), staging: address() } };
    }
    case "stop":
      return { kind };
    default:
      return kind satisfies never;
  }
}
