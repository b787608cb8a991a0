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
  const candidates = candidatesOf(scores, sampling);
  const total = candidates.reduce((sum, { weight }) => sum + weight, 0);
  let left = uniform(sampling.seed, position) * total;
  for (const { id, weight } of candidates) {
    left -= weight;
    if (left < 0) return id;
  }
  return candidates[candidates.length - 1].id;
}

function penalised(
  logits: Float32Array,
  penalty: number,
  occurred: ReadonlySet<number>,
): Float32Array {
  if (penalty === 1) return logits;
  const scores = logits.slice();
  for (const id of occurred)
    scores[id] = scores[id] > 0 ? scores[id] / penalty : scores[id] * penalty;
  return scores;
}

interface Candidate {
  readonly id: number;
  /** Probability relative to the most likely token. */
  readonly weight: number;
}

/** Weights below e^−this of the largest count as nothing: less than 1e-13 of the probability. */
const negligible = 40;

/** The tokens that may be drawn, the most likely first, equal ones by id. */
function candidatesOf(
  scores: Float32Array,
  { temperature, topK, topP, minP }: Sampling,
): Candidate[] {
  const largest = scores[argMax(scores)];
  const candidates: Candidate[] = [];
  for (let id = 0; id < scores.length; id++) {
    const power = (scores[id] - largest) / temperature;
    if (power > -negligible) candidates.push({ id, weight: exp(power) });
  }
  candidates.sort((a, b) => b.weight - a.weight || a.id - b.id);
  const kept = topK > 0 ? candidates.slice(0, topK) : candidates;
  const total = kept.reduce((sum, { weight }) => sum + weight, 0);
  let count = 0;
  for (let sum = 0; count < kept.length && (count === 0 || sum < topP * total); count++)
    sum += kept[count].weight;
  return kept.slice(0, count).filter(({ weight }) => weight >= minP);
}

/** A number in [0, 1) from (seed, position): 53 bits of SplitMix64 (Steele et al. 2014) on 64-bit integers. */
export function uniform(seed: number, position: number): number {
  const mask = (1n << 64n) - 1n;
  let z = (mix(BigInt(seed)) + BigInt(position) * 0x9e3779b97f4a7c15n) & mask;
  z = mix(z);
  return Number(z >> 11n) * 2 ** -53;
}

function mix(value: bigint): bigint {
  const mask = (1n << 64n) - 1n;
  let z = (value + 0x9e3779b97f4a7c15n) & mask;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask;
  return z ^ (z >> 31n);
}
