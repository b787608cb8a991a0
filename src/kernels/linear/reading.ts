import { Capture, type Node } from "../../ir/graph.ts";
import { isParam, isRound, placeholder, roundActivations, type Digits } from "../../ops/index.ts";
import type { Call } from "../../plan/plan.ts";
import { inputOf, maxRowsOf, rowsOf } from "../kernel.ts";
import type { Lowering, ModelFacts, StepDraft, Use } from "../kernel.ts";
import { unlimited } from "../program.ts";
import { acceptsRows, madeRows, rowMeanings, rowsCall } from "../row-kernels.ts";
import type { SourceName } from "../rows.ts";
import { roundedPlace } from "./activations.ts";
import { fewRows, type LinearInput } from "./calls.ts";
import type { RowsKind } from "./dot.ts";

/** What the rows of a linear are made of by the same kernel; undefined where they are there already. */
export type Made = Exclude<SourceName, "silu-mul"> | undefined;

/** What a linear reads, and what makes it. */
export interface Reading {
  readonly few: LinearInput;
  readonly many: LinearInput;
  /** Calls in front of those that read `few`. */
  readonly prologue: readonly Call[];
  /** Steps in front of those that read `many`. */
  readonly before: readonly StepDraft[];
}

/** A step of different calls for few rows and for many; where it has none, other steps do its work. */
export const stepFor = (
  name: string,
  { root }: Use,
  { few, many }: Readonly<Record<RowsKind, readonly Call[]>>,
): StepDraft => ({
  name,
  rows: rowsOf(root),
  variants: [
    { maxRows: fewRows, calls: few },
    { maxRows: unlimited, calls: many },
  ],
});

export const readingMeaning = (made: Made): Node =>
  made ? roundActivations(rowMeanings[made], new Capture("digits")) : placeholder("x");

/**
 * Whether the rows and the weight fit each other: integer weights are multiplied by rounded rows, others by f32. An elementwise
 * value is left to the kernel that computes it, as that may round it too.
 */
export function acceptsReading(use: Use, model: ModelFacts, made: Made): boolean {
  const weight = inputOf(use, "weight");
  const x = inputOf(use, "x");
  if (made === "copy" && x.op.kind === "elementwise") return false;
  const isRounded = made !== undefined || isRound(x);
  const isPacked = isParam(weight) && model.isPacked(weight);
  return isPacked && model.isInteger(weight) === isRounded && acceptsRows(use);
}

/** Of few rows each thread makes all for itself, in its scratch: that takes less time than to wait for the others. */
export function readingOf(use: Use, at: Lowering, made: Made): Reading {
  const x = inputOf(use, "x");
  const maxRows = maxRowsOf(x);
  if (made === undefined) {
    const digits = isRound(x) ? (x.number("digits") as Digits) : undefined;
    const given = { x, maxRows, digits };
    return { few: given, many: given, prologue: [], before: [] };
  }
  const rows = madeRows(use, made);
  const { columns, digits = 1 } = rows;
  const bytesFor = (count: number): number => roundedPlace(columns, digits, count).bytes;
  at.scratch(bytesFor(fewRows));
  const few = { x: { kind: "scratch", offset: 0 }, maxRows: fewRows, digits } as const;
  const many = { x: at.temporary("rounded", bytesFor(maxRows)), maxRows, digits };
  const [own, shared] = (
    [
      [few, "own"],
      [many, "rows"],
    ] as const
  ).map(([{ x: y, maxRows }, by]) => rowsCall(at, rows, { y, rows: rowsOf(x), maxRows }, by));
  const before = stepFor(shared.program, use, { few: [], many: [shared] });
  return { few, many, prologue: [own], before: [before] };
}
