import { writeFile } from "node:fs/promises";
import type { StepTime } from "../devices/device.ts";
import type { Roofs } from "../devices/wasm/roofs.ts";
import { countOf } from "../devices/wasm/runner.ts";
import type { Call, Plan, Step } from "../plan/plan.ts";
import { fileError } from "./model.ts";
import { sum, table } from "./shell.ts";

/** The times of the steps of some runs of `rows` rows each. */
export interface Profile {
  /** Of the runs: `decode at 0, 2 threads`. */
  readonly title: string;
  /** Rows of a run, and of its logits. */
  readonly rows: number;
  readonly runs: readonly (readonly StepTime[])[];
}

/** What a step of a run costs: milliseconds until all threads have done it, and that a thread waits for others before it. */
function costOf(step: Step, threads: readonly StepTime[], given: number, { weights }: Plan) {
  const rows = countOf(step.rows, { seq_len: given, batch_size: 1 }); // logits are asked of one row
  const calls = step.variants.find(({ maxRows }) => rows <= maxRows)?.calls ?? [];
  const isLookup = calls.some(({ program }) => program.startsWith("embed"));
  const read = isLookup ? [] : weightsOf(calls).map((at) => weights[at]);
  const began = Math.min(...threads.map((time) => time.began));
  const ended = Math.max(...threads.map((time) => time.ended));
  return {
    kind: step.name.replace(/(model\.)?layers\.\d+\./, ""), // one for all layers
    program: [...new Set(calls.map(({ program }) => program))].join(" + "),
    ms: ended - began,
    waited: sum(threads.map((time) => time.began - time.arrived)) / threads.length,
    bytes: sum(read.map(({ bytes }) => bytes)),
    macs: rows * sum(read.map(({ rows: n, columns }) => n * columns)),
  };
}

/** Indices of the weights that calls read. */
const weightsOf = (calls: readonly Call[]): number[] =>
  calls.flatMap(({ args }) => args.flatMap((arg) => (arg.kind === "weight" ? [arg.weight] : [])));

/**
 * Bytes of weights that one token reads: those that the steps of a forward name. A token embedding is looked up by another
 * function and so does not count, unless it is the head as well (tied).
 */
export function bytesPerToken({ functions, weights }: Plan): number {
  const steps = functions.filter(({ name }) => name !== "embed").flatMap((fn) => fn.steps);
  const read = new Set(steps.flatMap(({ variants }) => weightsOf(variants[0].calls)));
  return sum([...read].map((at) => weights[at].bytes));
}

const titles = "ms,share,waiting,GB/s,of roof,GMAC/s,of roof,steps".split(",");
const percent = (part: number): string => `${(100 * part).toFixed(1)} %`;
const showRate = (rate: number, roof: number): string[] =>
  rate > 0 ? [(rate / 1e9).toFixed(1), percent(rate / roof)] : ["", ""];

/** Tables of what each kind of step and each program takes of a run, against what the machine gives. */
export function showProfile({ title, rows, runs }: Profile, plan: Plan, roofs: Roofs): string {
  const costs = runs.flatMap((times) => {
    const byStep = Map.groupBy(times, ({ step }) => step);
    return [...byStep].map(([step, threads]) => costOf(step, threads, rows, plan));
  });
  /** Of a run. */
  const mean = (some: typeof costs, amount: "ms" | "waited" | "bytes" | "macs"): number =>
    sum(some.map((cost) => cost[amount])) / runs.length;
  const tables = (["kind", "program"] as const).map((by) => {
    const groups = [...Map.groupBy(costs, (cost) => cost[by])]
      .map(([name, same]) => ({ name, same, ms: mean(same, "ms"), waited: mean(same, "waited") }))
      .filter(({ ms }) => ms > 0)
      .sort((a, b) => b.ms - a.ms);
    const total = sum(groups.map(({ ms, waited }) => ms + waited));
    const lines = groups.map(({ name, same, ms, waited }) => [
      ms.toFixed(3),
      percent((ms + waited) / total),
      waited.toFixed(3),
      ...showRate((1000 * mean(same, "bytes")) / ms, roofs.bytesPerSecond),
      ...showRate((1000 * mean(same, "macs")) / ms, roofs.macsPerSecond),
      (same.length / runs.length).toFixed(0),
      name,
    ]);
    const heading = `${title}: ${total.toFixed(2)} ms a run, by ${by} of step`;
    return `\n${heading}\n${table([[...titles, `${by} of step`], ...lines])}`;
  });
  return tables.join("");
}

/** Chrome's trace event format, which Perfetto opens: a track for each thread, on it steps and what was waited before them. */
export async function writeTrace(path: string, profiles: readonly Profile[]): Promise<void> {
  const times = profiles.flatMap(({ runs }) => runs.flat());
  const start = Math.min(...times.map(({ arrived }) => arrived));
  const event = (name: string, tid: number, from: number, to: number) => {
    const [ts, dur] = [1000 * (from - start), 1000 * (to - from)]; // microseconds
    return { name, ph: "X", pid: 1, tid, ts, dur };
  };
  const traceEvents = times.flatMap(({ thread, step, arrived, began, ended }) => [
    ...(began > arrived ? [event("barrier", thread, arrived, began)] : []),
    event(step.name, thread, began, ended),
  ]);
  const written = writeFile(path, JSON.stringify({ traceEvents }));
  await written.catch(fileError("output", `${path}: cannot be written`));
}
