import type { Graph } from "../ir/graph.ts";
import type { Precision, WeightShapes } from "./compile.ts";
import { roundCache, roundLinearInputs } from "./passes/precision.ts";
import { mergeEqual, simplify } from "./passes/simplify.ts";
import { isIntegerWeight } from "./weights.ts";

export type Pass = readonly [name: string, run: (graph: Graph) => Graph];

/** The passes in order. Each looks at the graph alone, never at which pass ran before. */
export const passesFor = (precision: Precision, weights: WeightShapes): readonly Pass[] => [
  ["simplify", simplify],
  ["round-cache", roundCache(precision.kv)],
  [
    "round-linear-inputs",
    roundLinearInputs(precision.digits, (param) => isIntegerWeight(weights, param)),
  ],
  ["merge-equal", mergeEqual],
];
