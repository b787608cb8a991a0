import { writeFile } from "node:fs/promises";
import { InputError, messageOf } from "../base/errors.ts";
import type { StepTime } from "../devices/device.ts";
import type { Roofs } from "../devices/wasm/roofs.ts";
import type { Plan, RowCount, Step } from "../plan/plan.ts";
import { table } from "./shell.ts";

/** The times of the steps of some runs of `rows` rows each. */
export interface Profile {
  /** Of the runs: `decode at 0, 2 threads`. */
  readonly title: string;
  /** Rows of a run, and of its logits. */
  readonly rows: number;
  readonly runs: readonly (readonly StepTime[])[];
}

/** What steps of one kind cost in a run, on average: milliseconds of all their time, and of threads that wait for others. */
interface Cost {
  steps: number;
  ms: number;
  waited: number;
  bytes: number;
  macs: number;
}

/** Steps of all layers count as one: `linear self_attn.qkv_proj.weight`. */
const kindOf = ({ name }: Step): string => name.replace(/(model\.)?layers\.\d+\./, "");

/** The programs that a step of so many rows runs, and the weights that it reads. */
function workOf({ rows, variants }: Step, given: number, { weights }: Plan) {
  const count = rowsIn(rows, given);
  const calls = variants.find(({ maxRows }) => count <= maxRows)?.calls ?? [];
  const read = calls.flatMap(({ args }) =>
    args.flatMap((arg) => (arg.kind === "weight" ? [weights[arg.weight]] : [])),
  );
  const isLookup = calls.some(({ program }) => program.startsWith("embed"));
  return {
    programs: [...new Set(calls.map(({ program }) => program))],
    bytes: isLookup ? 0 : read.reduce((sum, { bytes }) => sum + bytes, 0),
    macs: isLookup ? 0 : count * read.reduce((sum, { rows: n, columns }) => sum + n * columns, 0),
  };
}

/** Logits are asked of one row. */
const rowsIn = (rows: RowCount, given: number): number =>
  rows.kind === "constant" ? rows.value : rows.times * (rows.name === "batch_size" ? 1 : given);

/** Costs by kind of step or by program, the dearest first. */
function costs({ rows, runs }: Profile, plan: Plan, by: "kind" | "program"): [string, Cost][] {
  const found = new Map<string, Cost>();
  for (const times of runs) {
    const byStep = Map.groupBy(times, ({ step }) => step);
    for (const [step, threads] of byStep) {
      const { programs, bytes, macs } = workOf(step, rows, plan);
      const key = by === "kind" ? kindOf(step) : programs.join(" + ");
      const cost = found.get(key) ?? { steps: 0, ms: 0, waited: 0, bytes: 0, macs: 0 };
      found.set(key, cost);
      const began = Math.min(...threads.map((time) => time.began));
      const ended = Math.max(...threads.map((time) => time.ended));
      const waited = threads.reduce((sum, time) => sum + time.began - time.arrived, 0);
      cost.steps += 1 / runs.length;
      cost.ms += (ended - began) / runs.length;
      cost.waited += waited / threads.length / runs.length;
      cost.bytes += bytes / runs.length;
      cost.macs += macs / runs.length;
    }
  }
  return [...found].filter(([, { ms }]) => ms > 0).sort(([, a], [, b]) => b.ms - a.ms);
}

/** Tables of what each kind of step and each program takes of a run, against what the machine gives. */
export function showProfile(profile: Profile, plan: Plan, roofs: Roofs): string {
  const titlesBy = (by: string): string[] => [
    "ms",
    "share",
    "waiting",
    "GB/s",
    "of roof",
    "GMAC/s",
    "of roof",
    "steps",
    `${by} of step`,
  ];
  const percent = (part: number): string => `${(100 * part).toFixed(1)} %`;
  const tables = (["kind", "program"] as const).map((by) => {
    const all = costs(profile, plan, by);
    const total = all.reduce((sum, [, { ms, waited }]) => sum + ms + waited, 0);
    const lines = all.map(([name, { steps, ms, waited, bytes, macs }]) => {
      const [byteRate, macRate] = [bytes, macs].map((amount) => (1000 * amount) / ms);
      const rates = [
        [byteRate, roofs.bytesPerSecond],
        [macRate, roofs.macsPerSecond],
      ].flatMap(([rate, roof]) =>
        rate > 0 ? [(rate / 1e9).toFixed(1), percent(rate / roof)] : ["", ""],
      );
      const share = percent((ms + waited) / total);
      return [ms.toFixed(3), share, waited.toFixed(3), ...rates, steps.toFixed(0), name];
    });
    return `${profile.title}: ${total.toFixed(2)} ms a run, by ${by} of step\n${table([titlesBy(by), ...lines])}`;
  });
  return `\n${tables.join("\n")}`;
}

/** Chrome's trace event format, which Perfetto opens: a track for each thread, on it steps and what was waited before them. */
export async function writeTrace(path: string, profiles: readonly Profile[]): Promise<void> {
  const times = profiles.flatMap(({ runs }) => runs.flat());
  const start = Math.min(...times.map(({ arrived }) => arrived));
  const traceEvents = times.flatMap(({ thread, step, arrived, began, ended }) =>
    [
      { name: "barrier", from: arrived, to: began },
      { name: step.name, from: began, to: ended },
    ]
      .filter(({ name, from, to }) => name !== "barrier" || to > from)
      .map(({ name, from, to }) => {
        const [ts, dur] = [1000 * (from - start), 1000 * (to - from)]; // microseconds
        return { name, ph: "X", pid: 1, tid: thread, ts, dur };
      }),
  );
  await writeFile(path, JSON.stringify({ traceEvents })).catch((error: unknown) => {
    throw new InputError("output", `${path}: cannot be written: ${messageOf(error)}`);
  });
}
