import { Capture, type Node } from "../../ir/graph.ts";
import { isParam, isRound, placeholder, roundActivations, type Digits } from "../../ops/index.ts";
import type { Call, RowCount } from "../../plan/plan.ts";
import { inputOf, maxRowsOf } from "../kernel.ts";
import type { Lowering, ModelFacts, StepDraft, Use } from "../kernel.ts";
import { unlimited } from "../program.ts";
import { acceptsRows, madeRows, rowMeanings, rowsCall } from "../row-kernels.ts";
import type { SourceName } from "../rows.ts";
import { roundedPlace } from "./activations.ts";
import { fewRows, linearCall, type LinearInput, type LinearOutput } from "./calls.ts";
import type { RowsKind } from "./dot.ts";

/** What the rows of a linear are made of by the same kernel; undefined where they are there already. */
export type Made = Exclude<SourceName, "silu-mul"> | undefined;

/** What a linear reads, and what makes it. */
interface Reading {
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
  rows: RowCount,
  { few, many }: Readonly<Record<RowsKind, readonly Call[]>>,
): StepDraft => ({
  name,
  rows,
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
  const [weight, x] = [inputOf(use, "weight"), inputOf(use, "x")];
  if (made === "copy" && x.op.kind === "elementwise") return false;
  const isRounded = made !== undefined || isRound(x);
  const isPacked = isParam(weight) && model.isPacked(weight);
  return isPacked && model.isInteger(weight) === isRounded && acceptsRows(use);
}

/** Of few rows each thread makes all for itself, in its scratch: that takes less time than to wait for the others. */
export function readingOf(use: Use, at: Lowering, source: Made): Reading {
  const x = inputOf(use, "x");
  const maxRows = maxRowsOf(x);
  if (source === undefined) {
    const digits = isRound(x) ? (x.number("digits") as Digits) : undefined;
    const given = { x, maxRows, digits };
    return { few: given, many: given, prologue: [], before: [] };
  }
  const made = madeRows(use, source);
  const { columns, digits = 1 } = made;
  const bytesFor = (count: number): number => roundedPlace(columns, digits, count).bytes;
  at.scratch(bytesFor(fewRows));
  const few = { x: { kind: "scratch", offset: 0 }, maxRows: fewRows, digits } as const;
  const many = { x: at.temporary("rounded", bytesFor(maxRows)), maxRows, digits };
  const own = rowsCall(at, made, few.x, fewRows, "own");
  const shared = rowsCall(at, made, many.x, maxRows);
  const before = stepFor(shared.program, made.rows, { few: [], many: [shared] });
  return { few, many, prologue: [own], before: [before] };
}

/** The steps of a linear, behind those that make what it reads; `then`: calls that go on with its few rows. */
export function linearSteps(
  use: Use,
  at: Lowering,
  { few, many, prologue, before }: Reading,
  output: LinearOutput,
  then: readonly Call[] = [],
): StepDraft[] {
  const weight = inputOf(use, "weight");
  const calls = (kind: RowsKind, input: LinearInput): Call[] =>
    at.weight(weight).map((part) => linearCall(at, kind, part, input, output));
  const step = stepFor(`linear ${weight.string("name")}`, output.rows, {
    few: [...prologue, ...calls("few", few), ...then],
    many: calls("many", many),
  });
  return [...before, step];
}
