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
  const ranking = rank(scores, sampling.temperature);
  const { count, weight } = keep(ranking, sampling);
  let left = uniform(sampling.seed, position) * weight;
  let chosen = 0;
  for (const id of ranking.best(count)) {
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

/** The stretch e^−n … e^−(n+1) of a probability, by its logarithm; the last one is for all that counts as nothing. */
const stretchOf = (power: number): number => Math.min(Math.floor(-power), negligible);

/** Tokens by falling score, equal ones by id. Put in order only as far as they are asked for: most draws end among the first. */
function rank(scores: Float32Array, temperature: number) {
  const largest = scores[argMax(scores)];
  /** Logarithms of probabilities relative to that of the most likely token. */
  const powers = new Float64Array(scores.length);
  /** Where each stretch begins in `ids`, and the end. */
  const starts = new Int32Array(negligible + 2);
  for (let id = 0; id < scores.length; id++) {
    powers[id] = (scores[id] - largest) / temperature;
    starts[stretchOf(powers[id]) + 1]++;
  }
  for (let n = 0; n <= negligible; n++) starts[n + 1] += starts[n];
  const ids = new Int32Array(scores.length);
  const next = starts.slice();
  for (let id = 0; id < scores.length; id++) ids[next[stretchOf(powers[id])]++] = id;
  let sorted = 0;
  return {
    /** Tokens that may be drawn at all, in no order. */
    ids: ids.subarray(0, starts[negligible]),
    /** Probability relative to the most likely token. */
    weight: (id: number): number => exp(powers[id]),
    *best(count: number): Generator<number> {
      for (let n = 0; starts[n] < count; n++) {
        const stretch = ids.subarray(starts[n], starts[n + 1]);
        if (n === sorted) {
          stretch.sort((a, b) => scores[b] - scores[a] || a - b);
          sorted++;
        }
        yield* stretch.subarray(0, count - starts[n]);
      }
    },
  };
}

/** How many of the most likely tokens may be drawn, and their weight: all three filters keep the first of the ranking. */
function keep({ ids, weight, best }: ReturnType<typeof rank>, { topK, topP, minP }: Sampling) {
  const most = topK > 0 ? Math.min(topK, ids.length) : ids.length;
  let total = 0;
  for (const id of topK > 0 ? best(most) : ids) total += weight(id);
  if (topP === 1 && minP === 0) return { count: most, weight: total };
  let count = 0;
  let kept = 0;
  for (const id of best(most)) {
    const next = weight(id);
    if (next < minP || (count > 0 && kept >= topP * total)) break;
    count++;
    kept += next;
  }
  return { count, weight: kept };
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
