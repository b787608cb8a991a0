import { found } from "../../base/errors.ts";
import type { DimBindings } from "../../ir/dim.ts";
import type { Argument, Call, PlannedFunction, PlannedWeight, RowCount } from "../../plan/plan.ts";
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

export const countOf = (rows: RowCount, sizes: DimBindings): number =>
  rows.kind === "constant" ? rows.value : sizes[rows.name] * rows.times;

/** Address of a weight in its memory. */
export const weightAt = (map: MemoryMap, { memory, offset }: PlannedWeight): number =>
  (memory === 0 ? map.weights : 0) + offset;

/** What runs functions of a plan on one thread of the team: all threads run the same, and return when all have finished. */
export function createRunner(place: Place): Work {
  const { plan, threads, times } = place;
  const wait = programOf(place, "barrier");
  const functions = new Map(plan.functions.map((fn) => [fn.name, stepsOf(fn, place)]));
  return (command) => {
    let at = 0;
    const note = (): void => {
      if (command.isTimed) times[at++] = performance.timeOrigin + performance.now();
    };
    for (const name of command.functions) {
      const steps = found(functions.get(name), "function", `no function named ${name}`);
      let mustWait = false;
      for (const { barrier, rows, variants } of steps) {
        const count = countOf(rows, command.sizes);
        const works = variants.find(({ maxRows }) => count <= maxRows)?.works ?? [];
        mustWait ||= barrier;
        note();
        if (mustWait && works.length > 0) {
          wait(threads);
          mustWait = false;
        }
        note();
        for (const work of works) work(command);
        note();
      }
      wait(threads);
    }
  };
}

const programOf = ({ programs }: Place, name: string): Program =>
  found(programs[name], "program", `no program named ${name}`) as Program;

/** The steps of a function, each with the work of its variants. */
const stepsOf = (fn: PlannedFunction, place: Place) =>
  fn.steps.map((step) => {
    const variants = step.variants.map(({ maxRows, calls }) => {
      return { maxRows, works: calls.map((call) => workOf(call, fn, place)) };
    });
    return { ...step, variants };
  });

function workOf({ program, args }: Call, fn: PlannedFunction, place: Place): Work {
  const run = programOf(place, program);
  const { thread, threads } = place;
  const given = [...args.map((arg) => valueOf(arg, fn, place)), thread, threads, scratchOf(place)];
  const bound = given.flatMap((value, at) => (typeof value === "number" ? [] : [{ at, value }]));
  const values = given.map((value) => (typeof value === "number" ? value : 0));
  return (command) => {
    for (const { at, value } of bound) values[at] = value(command);
    run(...values);
  };
}

const scratchOf = ({ map, thread }: Place): number => map.scratch + thread * map.scratchStride;

function valueOf(arg: Argument, { buffers }: PlannedFunction, place: Place): number | Bound {
  const { map, plan } = place;
  switch (arg.kind) {
    case "constant":
      return arg.value;
    case "size":
      return ({ sizes }) => sizes[arg.name] * arg.times;
    case "buffer": {
      const { place: at, name } = buffers[arg.buffer];
      return arg.offset + (at.kind === "slot" ? map.slots[name] : map.arena + at.offset);
    }
    case "weight":
      return weightAt(map, plan.weights[arg.weight]);
    case "scratch":
      return scratchOf(place) + arg.offset;
    case "table":
      return arg.table === "pageTable" ? ({ pageTable }) => pageTable : map.tables[arg.table];
    case "pages":
      return ({ pages, layerBytes }) => pages + arg.layer * layerBytes;
    default:
      return arg satisfies never;
  }
}
