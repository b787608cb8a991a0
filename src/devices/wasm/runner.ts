import { found } from "../../base/errors.ts";
import type { DimBindings } from "../../ir/dim.ts";
import type { Argument, PlannedFunction, PlannedWeight, RowCount, Step } from "../../plan/plan.ts";
import type { MemoryMap } from "./memory-map.ts";
import type { Place } from "./team.ts";

/** Functions that all threads run together. */
export interface RunCommand {
  readonly kind: "run";
  /** Names of functions of the plan, in order. */
  readonly functions: readonly string[];
  readonly sizes: DimBindings;
  /** Addresses of the cache in use, and of the page table, which moves as it grows. */
  readonly pages: number;
  readonly layerBytes: number;
  readonly pageTable: number;
  /** Whether threads note the times of their steps. */
  readonly isTimed: boolean;
}

export type Program = (...args: number[]) => void;
/** Work of this thread, with everything in place but for what a run binds. */
type Work = (command: RunCommand) => void;
/** The value of an argument that a run binds. */
type Bound = (command: RunCommand) => number;
interface ResolvedStep extends Pick<Step, "barrier" | "rows"> {
  readonly variants: readonly { readonly maxRows: number; readonly works: readonly Work[] }[];
}

export const countOf = (rows: RowCount, sizes: DimBindings): number =>
  rows.kind === "constant" ? rows.value : sizes[rows.name] * rows.times;

/** Address of a weight in its memory. */
export const weightAt = (map: MemoryMap, { memory, offset }: PlannedWeight): number =>
  (memory === 0 ? map.weights : 0) + offset;

/** Runs the steps of a plan on one thread of the team. */
export class Runner {
  readonly #place: Place;
  readonly #scratch: number;
  readonly #functions: ReadonlyMap<string, readonly ResolvedStep[]>;
  readonly #barrier: Program;

  constructor(place: Place) {
    this.#place = place;
    this.#scratch = place.map.scratch + place.thread * place.map.scratchStride;
    this.#barrier = this.#program("barrier");
    this.#functions = new Map(
      place.plan.functions.map((fn) => [fn.name, fn.steps.map((step) => this.#step(step, fn))]),
    );
  }

  /** All threads run the same functions; returns when all have finished. */
  run(command: RunCommand): void {
    const { functions, sizes, isTimed } = command;
    let at = 0;
    for (const name of functions) {
      const steps = found(this.#functions.get(name), "function", `no function named ${name}`);
      let mustWait = false;
      for (const { barrier, rows, variants } of steps) {
        const count = countOf(rows, sizes);
        const works = variants.find(({ maxRows }) => count <= maxRows)?.works ?? [];
        mustWait ||= barrier;
        if (isTimed) this.#note(at++);
        if (mustWait && works.length > 0) {
          this.#barrier(this.#place.threads);
          mustWait = false;
        }
        if (isTimed) this.#note(at++);
        for (const work of works) work(command);
        if (isTimed) this.#note(at++);
      }
      this.#barrier(this.#place.threads);
    }
  }

  #note(at: number): void {
    this.#place.times[at] = performance.timeOrigin + performance.now();
  }

  #program(name: string): Program {
    return found(this.#place.programs[name], "program", `no program named ${name}`) as Program;
  }

  #step({ barrier, rows, variants }: Step, fn: PlannedFunction): ResolvedStep {
    const resolved = variants.map(({ maxRows, calls }) => {
      return { maxRows, works: calls.map(({ program, args }) => this.#call(program, args, fn)) };
    });
    return { barrier, rows, variants: resolved };
  }

  #call(program: string, args: readonly Argument[], fn: PlannedFunction): Work {
    const run = this.#program(program);
    const { thread, threads } = this.#place;
    const given = [...args.map((arg) => this.#argument(arg, fn)), thread, threads, this.#scratch];
    const bound = given.flatMap((value, at) => (typeof value === "number" ? [] : [{ at, value }]));
    const values = given.map((value) => (typeof value === "number" ? value : 0));
    return (command) => {
      for (const { at, value } of bound) values[at] = value(command);
      run(...values);
    };
  }

  #argument(arg: Argument, { buffers }: PlannedFunction): number | Bound {
    const { map, plan } = this.#place;
    switch (arg.kind) {
      case "constant":
        return arg.value;
      case "size":
        return ({ sizes }) => sizes[arg.name] * arg.times;
      case "buffer": {
        const { place, name } = buffers[arg.buffer];
        return arg.offset + (place.kind === "slot" ? map.slots[name] : map.arena + place.offset);
      }
      case "weight":
        return weightAt(map, plan.weights[arg.weight]);
      case "scratch":
        return this.#scratch + arg.offset;
      case "table":
        return arg.table === "pageTable" ? ({ pageTable }) => pageTable : map.tables[arg.table];
      case "pages":
        return ({ pages, layerBytes }) => pages + arg.layer * layerBytes;
      default:
        return arg satisfies never;
    }
  }
}
