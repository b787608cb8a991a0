import { availableParallelism } from "node:os";
import { Option, type Command } from "commander";
import { InputError, throwIfAborted } from "../base/errors.ts";
import { measureBandwidth } from "../devices/wasm/bandwidth.ts";
import { compileModule, planModule, prepare, type LoadOptions, type Prepared } from "../index.ts";
import { limits } from "../load-options.ts";
import { engineOptions } from "../load.ts";
import type { Plan } from "../plan/plan.ts";
import { measureSpeeds, type Speed, type Work } from "./bench-model.ts";
import { LoadingBar, loadOptionsOf, modelPath } from "./model.ts";
import { loadOptions, number, numbers, type LoadFlags } from "./options.ts";
import { addCommand, type Shell } from "./shell.ts";

interface BenchFlags extends Omit<LoadFlags, "threads">, Work {
  readonly threads: readonly number[];
}

interface Row extends Speed {
  readonly threads: number;
  /** Of weights read a second, to bytes that the memory gives a second; null for a prefill. */
  readonly percent_of_bandwidth: number | null;
}

const count = number({ ...limits.context, least: 0 });
const repetitions = number({ least: 1, most: 100, whole: true });
const own: readonly Option[] = [
  new Option("--pp <tokens>", "tokens of a prompt, 0 for none").argParser(count).default(512),
  new Option("--tg <tokens>", "tokens that are generated, 0 for none")
    .argParser(count)
    .default(128),
  new Option("--depth <list>", "tokens before them, such as 0,4096")
    .argParser(numbers({ ...limits.context, least: 0 }))
    .default([0], "0"),
  new Option("--threads <list>", "worker threads, such as 1,2")
    .argParser(numbers(limits.threads))
    .default([availableParallelism()], "all that the machine has"),
  new Option("--repetitions <n>", "how often; the median counts").argParser(repetitions).default(3),
];

export function addBench(program: Command, shell: Shell): void {
  const { threads: _, ...shared } = loadOptions;
  addCommand(program, "bench", [...own, ...Object.values(shared)], {
    usage: "[options] [MODEL]",
    about: "Measures speed on random tokens: a table, then the same as one line of JSON.",
    example: "tramontane bench --pp 512 --tg 128 --depth 0,4096 --threads 1,2",
  })
    .argument("[model]", "a folder or a file; the bundled model where absent")
    .action(async (model: string | undefined, flags: BenchFlags) => {
      const path = modelPath(model);
      const { threads, ...rest } = flags;
      await using prepared = await prepareFor(path, loadOptionsOf(rest, shell), flags);
      const bandwidths: Record<number, number> = {};
      const runs: Run[] = [];
      for (const each of threads) {
        throwIfAborted(shell.signal);
        const bandwidth = await measureBandwidth(each);
        bandwidths[each] = bandwidth / 1e9;
        runs.push({ ...(await measure(prepared, each, flags, shell)), threads: each, bandwidth });
      }
      const { plan } = planModule(prepared.module, prepared.weights, engineOptions(prepared));
      const bytes = bytesPerToken(plan);
      const rows = runs.flatMap((run) => run.speeds.map((speed) => rowOf(speed, run, bytes)));
      const { load_ms, compile_ms } = runs[0]; // as a user meets it: the first
      process.stdout.write(table(rows));
      const found = { model: path, load_ms, compile_ms, bandwidth_gb_s: bandwidths, rows };
      process.stdout.write(`${JSON.stringify(found)}\n`);
    });
}

/** Opens the model with a context for what is measured, unless another was given. */
async function prepareFor(
  path: string,
  options: LoadOptions,
  flags: BenchFlags,
): Promise<Prepared> {
  const need = Math.max(...flags.depth) + Math.max(flags.pp, flags.tg);
  const prepared = await prepare(path, options);
  if (need <= prepared.context) return prepared;
  await prepared[Symbol.asyncDispose]();
  if (options.context === undefined) return await prepare(path, { ...options, context: need });
  throw new InputError(
    "context",
    `--depth with --pp and --tg needs ${need} tokens, --context is ${options.context}; raise it`,
  );
}

interface Measured {
  readonly load_ms: number;
  /** Until programs are compiled and threads are ready; part of `load_ms`. */
  readonly compile_ms: number;
  readonly speeds: readonly Speed[];
}

interface Run extends Measured {
  readonly threads: number;
  /** Bytes a second. */
  readonly bandwidth: number;
}

/** `bytes`: of weights that one token reads. */
function rowOf(speed: Speed, { threads, bandwidth }: Run, bytes: number): Row {
  const percent = (100 * bytes * speed.tokens_per_s) / bandwidth;
  return { threads, ...speed, percent_of_bandwidth: speed.kind === "decode" ? percent : null };
}

async function measure(
  prepared: Prepared,
  threads: number,
  flags: BenchFlags,
  { signal }: Shell,
): Promise<Measured> {
  const start = performance.now();
  const { model: loaded, compiled } = await compileTimed(prepared, threads);
  await using model = loaded;
  const load_ms = performance.now() - start;
  const speeds: Speed[] = [];
  for await (const speed of measureSpeeds(model, prepared, flags, signal)) {
    const { kind, tokens, depth, tokens_per_s } = speed;
    speeds.push(speed);
    const rate = `${tokens_per_s.toFixed(1)} tokens/s`;
    process.stderr.write(`threads ${threads}, ${kind} of ${tokens} at ${depth}: ${rate}\n`);
  }
  return { load_ms, compile_ms: compiled - start, speeds };
}

/** A model, and when its threads were ready to take weights. */
async function compileTimed(prepared: Prepared, threads: number) {
  using bar = new LoadingBar();
  let compiled = Infinity;
  const model = await compileModule(prepared.module, prepared.weights, {
    ...engineOptions(prepared),
    threads,
    onProgress: (progress) => {
      if (progress.phase === "weights") compiled = Math.min(compiled, performance.now());
      bar.show(progress);
    },
  });
  return { model, compiled };
}

/**
 * Bytes of weights that one token reads: those that the steps of a forward name. A token embedding is looked up by another
 * function and so does not count, unless it is the head as well (tied).
 */
function bytesPerToken({ functions, weights }: Plan): number {
  const steps = functions.filter(({ name }) => name !== "embed").flatMap((fn) => fn.steps);
  const args = steps.flatMap(({ variants }) => variants[0].calls.flatMap((call) => call.args));
  const read = new Set(args.flatMap((arg) => (arg.kind === "weight" ? [arg.weight] : [])));
  return [...read].reduce((sum, at) => sum + weights[at].bytes, 0);
}

function table(rows: readonly Row[]): string {
  const lines = [
    ["threads", "kind", "tokens", "depth", "tokens/s", "% of bandwidth"],
    ...rows.map((row) => [
      String(row.threads),
      row.kind,
      String(row.tokens),
      String(row.depth),
      row.tokens_per_s.toFixed(1),
      row.percent_of_bandwidth?.toFixed(1) ?? "",
    ]),
  ];
  const widths = lines[0].map((_, at) => 2 + Math.max(...lines.map((line) => line[at].length)));
  return lines
    .map((line) => `${line.map((cell, at) => cell.padStart(widths[at])).join("")}\n`)
    .join("");
}
