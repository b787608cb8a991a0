import { readFileSync } from "node:fs";
import { join } from "node:path";
import { compileModule, prepare, type CompiledModel, type DeviceName } from "../../src/index.ts";
import type { LoadOptions, PagedCache } from "../../src/index.ts";

/** A row of a `cases.json`: the prompt and the logits that follow from it. */
export interface Case {
  readonly name: string;
  readonly model?: string;
  readonly ids: readonly number[];
  readonly options?: Readonly<Record<string, number>>;
  readonly logits: string;
  readonly logitsFloat64?: string;
  readonly shape: readonly [number, number];
  readonly positions?: readonly number[];
  readonly int8Activations?: {
    readonly maxAbs: number;
    readonly rms: number;
    readonly klMean: number;
  };
}

const goldens = new URL("../goldens/", import.meta.url).pathname;
export const goldenPath = (...parts: readonly string[]): string => join(goldens, ...parts);
export const readJson = <T>(path: string): T => JSON.parse(readFileSync(path, "utf8")) as T;
export const casesOf = (folder: string): Case[] => readJson(goldenPath(folder, "cases.json"));

export function readF32(path: string): Float32Array {
  const bytes = readFileSync(path);
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

/** Options of a case as those of `load`; the references keep keys and values as they are. */
export function optionsOf({ options = {} }: Case): LoadOptions {
  const {
    sliding_window_size: slidingWindow,
    attention_sink_size: sinks,
    context_window_size: context,
  } = options;
  return {
    kv: "f32",
    ...(slidingWindow === undefined ? {} : { slidingWindow }),
    ...(sinks === undefined ? {} : { sinks }),
    ...(context === undefined ? {} : { context }),
  };
}

/** A compiled model with a cache of its own, for tests that decide themselves how tokens are fed. */
export interface Subject extends AsyncDisposable {
  readonly model: CompiledModel;
  readonly cache: PagedCache;
  /** Starts an empty sequence. */
  add(id: number): void;
}

export async function subject(
  path: string,
  options: LoadOptions & { device?: DeviceName } = {},
): Promise<Subject> {
  const threads = options.device === "interpreter" ? {} : { threads: 2 };
  await using prepared = await prepare(path, { chunk: 512, ...threads, ...options });
  const model = await compileModule(prepared.module, prepared.weights, prepared.compile);
  const { window } = prepared;
  const cache = await model.create_paged_kv_cache({ max_batch_size: 8, max_total_seq_len: 4096 });
  return {
    model,
    cache,
    add: (id) => {
      cache.add(id);
      if (window) cache.enableSlidingWindow(id, window.size, window.sinks);
    },
    [Symbol.asyncDispose]: async () => {
      cache[Symbol.dispose]();
      await model[Symbol.asyncDispose]();
    },
  };
}

/** Logits of every position of a fresh sequence fed in chunks: [tokens, vocab]. */
export async function logitsOf(
  { model, cache, add }: Subject,
  ids: readonly number[],
  chunk: number,
  id = 0,
): Promise<Float32Array> {
  add(id);
  const { vocab } = model.shape;
  const out = new Float32Array(ids.length * vocab);
  for (let first = 0; first < ids.length; first += chunk)
    out.set(
      await model.forward(cache, [{ id, tokens: ids.slice(first, first + chunk) }], "all"),
      first * vocab,
    );
  cache.remove(id);
  return out;
}

/** The rows that a case has references for. */
export function rowsOf(logits: Float32Array, { positions, shape }: Case): Float32Array {
  const [rows, vocab] = shape;
  if (positions === undefined) return logits.subarray(0, rows * vocab);
  const out = new Float32Array(rows * vocab);
  positions.forEach((at, row) =>
    out.set(logits.subarray(at * vocab, (at + 1) * vocab), row * vocab),
  );
  return out;
}

export interface Difference {
  /** Largest absolute difference ÷ largest |reference logit|. */
  readonly relative: number;
  readonly absolute: number;
  readonly rms: number;
  /** Mean Kullback-Leibler divergence (reference ‖ ours) over the rows, nats. */
  readonly klMean: number;
  /** Rows whose arg-max differs although the reference's two best are more than `tie` apart. */
  readonly wrongChoices: number;
}
const tie = 1e-4;

export function compare(reference: Float32Array, ours: Float32Array, vocab: number): Difference {
  let [absolute, largest, squares, kl, wrongChoices] = [0, 0, 0, 0, 0];
  const rows = reference.length / vocab;
  for (let row = 0; row < rows; row++) {
    const p = reference.subarray(row * vocab, (row + 1) * vocab);
    const q = ours.subarray(row * vocab, (row + 1) * vocab);
    const [logP, logQ] = [logSoftmax(p), logSoftmax(q)];
    const best = indexOfLargest(p);
    const choice = indexOfLargest(q);
    if (choice !== best && p[best] - p[choice] > tie) wrongChoices++;
    for (let at = 0; at < vocab; at++) {
      const difference = Math.abs(p[at] - q[at]);
      if (!(difference <= absolute)) absolute = difference; // NaN counts as the worst
      largest = Math.max(largest, Math.abs(p[at]));
      squares += difference * difference;
      kl += Math.exp(logP[at]) * (logP[at] - logQ[at]);
    }
  }
  const rms = Math.sqrt(squares / reference.length);
  return { relative: absolute / largest, absolute, rms, klMean: kl / rows, wrongChoices };
}

export function logSoftmax(logits: Float32Array): Float64Array {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  let sum = 0;
  for (const value of logits) sum += Math.exp(value - largest);
  const shift = largest + Math.log(sum);
  return Float64Array.from(logits, (value) => value - shift);
}

export const indexOfLargest = (values: Float32Array): number =>
  values.reduce((best, value, at) => (value > values[best] ? at : best), 0);
