import type { Graph } from "../ir/graph.ts";
import type { Digits } from "../ops/index.ts";
import type { KvType } from "../quant/kv-page.ts";
import { roundCache, roundLinearInputs } from "./passes/precision.ts";
import { mergeEqual, simplify } from "./passes/simplify.ts";
import { isIntegerWeight, type WeightShapes } from "./weights.ts";

export interface Precision {
  /** How the inputs of integer matmuls are rounded. */
  readonly digits: Digits;
  readonly kv: KvType;
}

export type Pass = readonly [name: string, run: (graph: Graph) => Graph];

/** The passes in order. Each looks at the graph alone, never at which pass ran before. */
export function passesFor({ digits, kv }: Precision, weights: WeightShapes): readonly Pass[] {
  const isInteger = (param: string): boolean => isIntegerWeight(weights, param);
  return [
    ["simplify", simplify],
    ["round-cache", roundCache(kv)],
    ["round-linear-inputs", roundLinearInputs(digits, isInteger)],
    ["merge-equal", mergeEqual],
  ];
}
