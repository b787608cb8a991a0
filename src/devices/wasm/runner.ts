import { InternalError } from "../../base/errors.ts";
import type { DimBindings } from "../../ir/dim.ts";
import type { Argument, Call, Plan, PlannedFunction, RowCount, Step } from "../../plan/plan.ts";
import type { MemoryMap } from "./memory-map.ts";

/** What one run binds: sizes, the cache in use, and the page table, which moves as it grows. */
export interface Binding {
  readonly sizes: DimBindings;
  readonly pages: number;
  readonly layerBytes: number;
  readonly pageTable: number;
}

type Program = (...args: number[]) => void;

/** A call with its arguments resolved but for those that a run binds. */
interface ResolvedCall {
  readonly run: Program;
  readonly args: number[];
  readonly bound: readonly { readonly at: number; value(binding: Binding): number }[];
}
interface ResolvedStep {
  readonly barrier: boolean;
  readonly rows: RowCount;
  readonly variants: readonly {
    readonly maxRows: number;
    readonly calls: readonly ResolvedCall[];
  }[];
}

/** Runs the steps of a plan on one thread of the team. */
export class Runner {
  readonly #functions: ReadonlyMap<string, readonly ResolvedStep[]>;
  readonly #barrier: () => void;
  readonly #copy: Program;
  readonly thread: number;

  constructor(
    exports: WebAssembly.Exports,
    plan: Pick<Plan, "functions" | "weights">,
    map: MemoryMap,
    team: { readonly thread: number; readonly threads: number },
  ) {
    const program = (name: string): Program => {
      const run = exports[name];
      if (typeof run !== "function") throw new InternalError("program", `no program named ${name}`);
      return run as Program;
    };
    const barrier = program("barrier");
    this.thread = team.thread;
    this.#barrier = () => barrier(map.barrier, team.threads);
    this.#copy = program("copy-bytes");
    const tail = [team.thread, team.threads, map.scratch + team.thread * map.scratchStride];
    this.#functions = new Map(
      plan.functions.map((fn) => [
        fn.name,
        fn.steps.map((step) =>
          resolveStep(step, program, { fn, weights: plan.weights, map, tail }),
        ),
      ]),
    );
  }

  /** All threads run the same functions; returns when all have finished. */
  run(functions: readonly string[], binding: Binding): void {
    for (const name of functions) {
      const steps = this.#functions.get(name);
      if (steps === undefined) throw new InternalError("function", `no function named ${name}`);
      for (const step of steps) this.#step(step, binding);
      this.#barrier();
    }
  }

  #step({ barrier, rows, variants }: ResolvedStep, binding: Binding): void {
    if (barrier) this.#barrier();
    const count = countOf(rows, binding.sizes);
    for (const { maxRows, calls } of variants) {
      if (count > maxRows) continue;
      for (const { run, args, bound } of calls) {
        for (const { at, value } of bound) args[at] = value(binding);
        run(...args);
      }
      return;
    }
  }

  /** Copies pages (from, to) of every layer, each layer on one thread. */
  copyPages(
    copies: Int32Array,
    binding: Binding,
    layers: number,
    pageBytes: number,
    threads: number,
  ): void {
    for (let layer = this.thread; layer < layers; layer += threads) {
      const base = binding.pages + layer * binding.layerBytes;
      for (let at = 0; at < copies.length; at += 2)
        this.#copy(base + copies[at + 1] * pageBytes, base + copies[at] * pageBytes, pageBytes);
    }
    this.#barrier();
  }
}

const countOf = (rows: RowCount, sizes: DimBindings): number =>
  rows.kind === "constant" ? rows.value : sizes[rows.name] * rows.times;

interface Resolution {
  readonly fn: PlannedFunction;
  readonly weights: Plan["weights"];
  readonly map: MemoryMap;
  readonly tail: readonly number[];
}

const resolveStep = (
  { barrier, rows, variants }: Step,
  program: (name: string) => Program,
  with_: Resolution,
): ResolvedStep => ({
  barrier,
  rows,
  variants: variants.map(({ maxRows, calls }) => ({
    maxRows,
    calls: calls.map((call) => resolveCall(call, program, with_)),
  })),
});

function resolveCall(
  call: Call,
  program: (name: string) => Program,
  { fn, weights, map, tail }: Resolution,
): ResolvedCall {
  const bound: { at: number; value(binding: Binding): number }[] = [];
  const fixed = call.args.map((arg, at) => {
    const value = resolveArgument(arg, fn, weights, map);
    if (typeof value === "number") return value;
    bound.push({ at, value });
    return 0;
  });
  return { run: program(call.program), args: [...fixed, ...tail], bound };
}

function resolveArgument(
  arg: Argument,
  fn: PlannedFunction,
  weights: Plan["weights"],
  map: MemoryMap,
): number | ((binding: Binding) => number) {
  switch (arg.kind) {
    case "constant":
      return arg.value;
    case "size":
      return ({ sizes }) => sizes[arg.name] * arg.times;
    case "buffer": {
      const { place, name } = fn.buffers[arg.buffer];
      return arg.offset + (place.kind === "slot" ? map.slots[name] : map.arena + place.offset);
    }
    case "weight":
      return map.weights + weights[arg.weight].offset;
    case "table":
      return arg.table === "pageTable" ? ({ pageTable }) => pageTable : map.tables[arg.table];
    case "pages":
      return ({ pages, layerBytes }) => pages + arg.layer * layerBytes;
    default:
      return arg satisfies never;
  }
}
