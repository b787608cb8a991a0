import { Option } from "commander";
import { InputError, throwIfAborted } from "../base/errors.ts";
import type { StepTime } from "../devices/device.ts";
import { measureRoofs } from "../devices/wasm/roofs.ts";
import { uniform } from "../engine/sampler.ts";
import type { CompiledModel, LoadOptions, PagedCache, Prepared, Progress } from "../index.ts";
import { limits } from "../load-options.ts";
import { compileModule, planModule, prepare } from "../load.ts";
import { loadingBar, modelPath } from "./model.ts";
import { loadOptions, number, numbers, option } from "./options.ts";
import { bytesPerToken, showProfile, writeTrace, type Profile } from "./profile.ts";
import { printJson, table, type Definition, type Shell } from "./shell.ts";

interface Work extends Omit<LoadOptions, "threads"> {
  /** Tokens of a prompt, tokens that are generated, and tokens that lie before them. */
  readonly pp: number;
  readonly tg: number;
  readonly depth: readonly number[];
  readonly repetitions: number;
  readonly profile?: true;
  readonly trace?: string;
}
type Flags = Work & { readonly threads?: readonly number[] };

const count = { ...limits.context, least: 0 };
const times = number({ least: 1, most: 100, whole: true });
const { threads: _, ...shared } = loadOptions;
const options = [
  option("--pp <tokens>", "tokens of a prompt, 0 for none", number(count)).default(512),
  option("--tg <tokens>", "tokens that are generated, 0 for none", number(count)).default(128),
  option("--depth <list>", "tokens before them, such as 0,4096", numbers(count)).default([0], "0"),
  option(
    "--threads <list>",
    "worker threads, such as 1,2 (default: all that the machine has)",
    numbers(limits.threads),
  ),
  option("--repetitions <n>", "how often; the median counts", times).default(3),
  new Option("--profile", "where the time goes, by kind of step and by program"),
  new Option("--trace <file>", "writes the steps of all threads for Perfetto"),
  ...Object.values(shared),
];

export const command: Definition = {
  about: "Measures speed on random tokens: a table, then the same as one line of JSON.",
  example: "--pp 512 --tg 128 --depth 0,4096 --threads 1,2",
  options,
  async run(given: string | undefined, { threads, ...work }: Flags, shell: Shell) {
    const model = modelPath(given);
    const machines = threads?.map((threads) => ({ threads })) ?? [{}];
    await using prepared = await prepareFor(model, { ...work, ...shell, ...machines[0] });
    const { plan } = planModule(prepared.module, prepared.weights, prepared.engine);
    const bandwidth_gb_s: Record<number, number> = {};
    const runs = [];
    for (const machine of machines) {
      const run = await measure(prepared, machine, work);
      const roofs = await measureRoofs(run.threads);
      bandwidth_gb_s[run.threads] = roofs.bytesPerSecond / 1e9;
      runs.push(run);
      if (work.profile)
        for (const each of run.profiles) process.stderr.write(showProfile(each, plan, roofs));
    }
    const profiles = runs.flatMap((run) => run.profiles);
    if (work.trace !== undefined) await writeTrace(work.trace, profiles);
    const gigabytes = bytesPerToken(plan) / 1e9;
    const speeds = runs.flatMap((run) => run.speeds);
    const rows = speeds.map((speed) => {
      const percent = (100 * gigabytes * speed.tokens_per_s) / bandwidth_gb_s[speed.threads];
      return { ...speed, percent_of_bandwidth: speed.kind === "decode" ? percent : null };
    });
    const { load_ms, compile_ms } = runs[0]; // as a user meets it: the first
    process.stdout.write(show(rows));
    printJson({ model, load_ms, compile_ms, bandwidth_gb_s, rows });
  },
};

/** Opens the model with a context for what is measured, unless another was given. */
async function prepareFor(path: string, options: Work & LoadOptions): Promise<Prepared> {
  const need = Math.max(...options.depth) + Math.max(options.pp, options.tg);
  const prepared = await prepare(path, options);
  if (need <= prepared.context) return prepared;
  await prepared[Symbol.asyncDispose]();
  if (options.context === undefined) return await prepare(path, { ...options, context: need });
  const given = `--context is ${options.context}; raise it`;
  throw new InputError("context", `--depth with --pp and --tg needs ${need} tokens, ${given}`);
}

/** Loads the model and measures it; as many threads as there are where the machine has no number. */
async function measure(prepared: Prepared, machine: Pick<LoadOptions, "threads">, work: Work) {
  throwIfAborted(prepared.engine.signal);
  using bar = await loadingBar();
  const start = performance.now();
  let compiled = Infinity;
  const onProgress = (progress: Progress): void => {
    if (progress.phase === "weights") compiled = Math.min(compiled, performance.now());
    bar.show(progress);
  };
  const options = { ...prepared.engine, ...machine, onProgress };
  await using model = await compileModule(prepared.module, prepared.weights, options);
  const load_ms = performance.now() - start;
  const measured = await measureSpeeds(model, prepared, work);
  return { threads: model.device.threads, load_ms, compile_ms: compiled - start, ...measured };
}

/** Measures how fast a model takes random tokens. */
async function measureSpeeds(model: CompiledModel, prepared: Prepared, work: Work) {
  const { cacheTokens, window } = prepared;
  const { threads } = model.device;
  const sizes = { max_batch_size: 2, max_total_seq_len: window ? 2 * cacheTokens : cacheTokens };
  using cache = await model.create_paged_kv_cache(sizes);
  const feed = feeder(model, cache, prepared.engine.signal);
  /** Milliseconds that tokens take in a fork of what lies before, which is thrown away. */
  const timed = async (tokens: number, step: number): Promise<number> => {
    cache.fork(0, 1);
    const start = performance.now();
    await feed(1, tokens, step);
    const ms = performance.now() - start;
    cache.remove(1);
    return ms;
  };
  const profiles: Profile[] = [];
  const speeds = [];
  const { maxRows } = model.shape;
  const kinds = [["prefill", work.pp, maxRows] as const, ["decode", work.tg, 1] as const];
  for (const depth of work.depth) {
    cache.add(0);
    if (window) cache.enableSlidingWindow(0, window.size, window.sinks);
    await feed(0, depth, maxRows);
    for (const [kind, tokens, step] of kinds) {
      if (tokens === 0) continue;
      await timed(Math.min(tokens, 8 * step), step); // warms up
      const times: number[] = [];
      for (let n = 0; n < work.repetitions; n++) times.push(await timed(tokens, step));
      const median = times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
      const tokens_per_s = (1000 * tokens) / median;
      speeds.push({ threads, kind, tokens, depth, tokens_per_s });
      const line = `threads ${threads}, ${kind} of ${tokens} at ${depth}: ${tokens_per_s.toFixed(1)}`;
      process.stderr.write(`${line} tokens/s\n`);
      if (!work.profile && work.trace === undefined) continue; // else once more, each step timed
      const runs: (readonly StepTime[])[] = [];
      const rows = Math.min(tokens, step);
      model.device.onSteps = (times) => runs.push(times);
      await timed(rows === 1 ? 32 : rows, rows);
      model.device.onSteps = undefined;
      profiles.push({ title: `${kind} at ${depth}, ${threads} threads`, rows, runs });
    }
    cache.remove(0);
  }
  return { speeds, profiles };
}

/** Appends random tokens to a sequence of the cache, so many a step. */
const feeder =
  (model: CompiledModel, cache: PagedCache, signal: AbortSignal | undefined) =>
  async (id: number, count: number, step: number): Promise<void> => {
    for (let first = 0; first < count; first += step) {
      throwIfAborted(signal);
      const length = Math.min(step, count - first);
      const random = (at: number): number => Math.floor(uniform(id, at) * model.shape.vocab);
      const tokens = Array.from({ length }, (_, at) => random(first + at));
      await model.forward(cache, [{ id, tokens }], "last");
    }
  };

/** Rows whose fields are in the order of the columns. */
function show(rows: readonly object[]): string {
  const titles = ["threads", "kind", "tokens", "depth", "tokens/s", "% of bandwidth"];
  const cell = (value: unknown, at: number): string =>
    at < 4 || typeof value !== "number" ? String(value ?? "") : value.toFixed(1);
  return table([titles, ...rows.map((row) => Object.values(row).map(cell))]);
}
