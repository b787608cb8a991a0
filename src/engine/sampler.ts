import { exp } from "../base/math.ts";
import type { Sampling } from "./request.ts";

/** Index of the largest value, the first of equal ones. */
export function argMax(values: Float32Array): number {
  let best = 0;
  for (let at = 1; at < values.length; at++) if (values[at] > values[best]) best = at;
  return best;
}

/**
 * Chooses the next token from logits [vocab]: penalty, temperature, top-k, top-p, min-p, in this order (that of Hugging Face
 * transformers), then one draw keyed by (seed, position). `occurred` are the tokens before.
 */
export function sample(
  logits: Float32Array,
  sampling: Sampling,
  position: number,
  occurred: ReadonlySet<number>,
): number {
  const scores = penalised(logits, sampling.repetitionPenalty, occurred);
  if (sampling.temperature === 0) return argMax(scores);
  const ranking = new Ranking(scores, sampling.temperature);
  const kept = keep(ranking, sampling);
  let left = uniform(sampling.seed, position) * kept.weight;
  let chosen = 0;
  for (const id of ranking.best(kept.count)) {
    chosen = id;
    left -= ranking.weight(id);
    if (left < 0) break;
  }
  return chosen;
}

function penalised(logits: Float32Array, penalty: number, occurred: ReadonlySet<number>) {
  if (penalty === 1) return logits;
  const scores = logits.slice();
  for (const id of occurred)
    scores[id] = scores[id] > 0 ? scores[id] / penalty : scores[id] * penalty;
  return scores;
}

/** Weights below e^−this of the largest count as nothing: less than 1e-13 of the probability. */
const negligible = 40;

/** Tokens by falling score, equal ones by id. Put in order only as far as they are asked for: most draws end among the first. */
class Ranking {
  readonly #scores: Float32Array;
  readonly #temperature: number;
  readonly #largest: number;
  /** Ids, those of each stretch e^−n … e^−(n+1) of the largest weight together. */
  readonly #ids: Int32Array;
  /** Where the stretches begin, and the end. */
  readonly #starts = new Int32Array(negligible + 1);
  #sorted = 0;

  constructor(scores: Float32Array, temperature: number) {
    this.#scores = scores;
    this.#temperature = temperature;
    this.#largest = scores[argMax(scores)];
    const stretchOf = (id: number): number => Math.floor(-this.#power(id));
    for (let id = 0; id < scores.length; id++) {
      const stretch = stretchOf(id);
      if (stretch < negligible) this.#starts[stretch + 1]++;
    }
    for (let n = 0; n < negligible; n++) this.#starts[n + 1] += this.#starts[n];
    this.#ids = new Int32Array(this.#starts[negligible]);
    const next = this.#starts.slice();
    for (let id = 0; id < scores.length; id++) {
      const stretch = stretchOf(id);
      if (stretch < negligible) this.#ids[next[stretch]++] = id;
    }
  }

  /** Tokens that may be drawn at all, in no order. */
  get ids(): Int32Array {
    return this.#ids;
  }

  /** Natural logarithm of `weight`. */
  #power(id: number): number {
    return (this.#scores[id] - this.#largest) / this.#temperature;
  }

  /** Probability relative to the most likely token. */
  weight(id: number): number {
    return exp(this.#power(id));
  }

  *best(count: number): Generator<number> {
    for (let n = 0, at = 0; n < negligible && at < count; n++) {
      const stretch = this.#ids.subarray(this.#starts[n], this.#starts[n + 1]);
      if (n === this.#sorted) {
        stretch.sort((a, b) => this.#scores[b] - this.#scores[a] || a - b);
        this.#sorted++;
      }
      for (let i = 0; i < stretch.length && at < count; i++, at++) yield stretch[i];
    }
  }
}

/** How many of the most likely tokens may be drawn, and their weight: all three filters keep the first of the ranking. */
function keep(ranking: Ranking, { topK, topP, minP }: Sampling) {
  const most = topK > 0 ? Math.min(topK, ranking.ids.length) : ranking.ids.length;
  let total = 0;
  for (const id of topK > 0 ? ranking.best(most) : ranking.ids) total += ranking.weight(id);
  if (topP === 1 && minP === 0) return { count: most, weight: total };
  let count = 0;
  let weight = 0;
  for (const id of ranking.best(most)) {
    const next = ranking.weight(id);
    if (next < minP || (count > 0 && weight >= topP * total)) break;
    count++;
    weight += next;
  }
  return { count, weight };
}

/** A number in [0, 1) from (seed, position): 53 bits of SplitMix64 (Steele et al. 2014) on 64-bit integers. */
export function uniform(seed: number, position: number): number {
  const state = mix(BigInt(seed)) + BigInt(position) * 0x9e3779b97f4a7c15n;
  return Number(mix(state) >> 11n) * 2 ** -53;
}

function mix(value: bigint): bigint {
  let z = BigInt.asUintN(64, value + 0x9e3779b97f4a7c15n);
  z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
  z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
  return z ^ (z >> 31n);
}
