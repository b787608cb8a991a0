import { Capture, type Node } from "../../ir/graph.ts";
import { isParam, isRound, placeholder, roundActivations, type Digits } from "../../ops/index.ts";
import type { Argument, Call, RowCount } from "../../plan/plan.ts";
import { groupBytes, layouts } from "../../quant/compute-layout.ts";
import { inputOf, markOf, maxRowsOf, offsetArg } from "../kernel.ts";
import type { Lowering, ModelFacts, StepDraft, Use, WeightPart } from "../kernel.ts";
import { callOf, fewRows, stepFor, type Given, type RowsKind } from "../program.ts";
import { acceptsRows, madeRows, rowMeanings, rowsCall, type SourceName } from "../rows.ts";
import { roundedPlace } from "./activations.ts";
import { quantPlan } from "./dot.ts";
import { emitFloatLinear } from "./float.ts";
import { emitMatmul, matmulScratchBytes } from "./matmul.ts";
import { emitMatvec } from "./matvec.ts";

/** What the rows of a linear are made of by the same kernel; undefined where they are there already. */
export type Made = Exclude<SourceName, "silu-mul"> | undefined;

/** Rows that a linear reads: f32, or, with `digits`, rounded ones in a place for `maxRows`. */
interface LinearInput {
  readonly x: Given;
  readonly maxRows: number;
  readonly digits: Digits | undefined;
}

/** What a linear reads, and what makes it. */
interface Reading {
  readonly few: LinearInput;
  readonly many: LinearInput;
  /** Calls in front of those that read `few`. */
  readonly prologue: readonly Call[];
  /** Steps in front of those that read `many`. */
  readonly before: readonly StepDraft[];
}

/** Rows that it makes: results, and what is added to them, of `columns` columns. */
interface LinearOutput {
  readonly y: Argument;
  readonly residual: Argument | undefined;
  readonly columns: number;
  readonly rows: RowCount;
  /** Groups that threads do not part where rows are few. */
  readonly unit: number;
}

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

/** The call that multiplies rows by one part of a weight. */
function linearCall(
  at: Lowering,
  kind: RowsKind,
  part: WeightPart,
  { x, maxRows, digits }: LinearInput,
  { y, residual, columns: outputs, rows, unit }: LinearOutput,
): Call {
  const { format, argument: weight, columns, memory } = part;
  const [layout, mark] = [layouts[format], markOf(memory)];
  const [to, added] = [y, residual].map((at) => (at ? offsetArg(at, 4 * part.firstRow) : 0));
  const group = groupBytes(layout, columns);
  // as `linearParams` has them, behind what x is
  const rest = [weight, group, to, 4 * outputs, added, part.rows, columns, rows];
  if (layout.kind === "float" || digits === undefined) {
    const program = at.program(`linear ${format}${mark}`, (module, name) =>
      emitFloatLinear(module, name, part),
    );
    return callOf(at, program, [x, 0, 0, ...rest]);
  }
  const { revectorize } = at.features;
  const plan = quantPlan(layout, at.features, digits, kind);
  const spec = { layout, digits, plan, revectorize, memory };
  const [verb, emit] =
    kind === "few" ? (["matvec", emitMatvec] as const) : (["matmul", emitMatmul] as const);
  const program = at.program(`${verb} ${format} x${digits}${mark}`, (module, name) =>
    emit(module, name, spec),
  );
  const { lowOffset, recordOffset, bytes } = roundedPlace(columns, digits, maxRows);
  const given = [x, lowOffset, recordOffset, ...rest];
  if (kind === "many") {
    at.scratch(matmulScratchBytes(spec, columns));
    return callOf(at, program, given);
  }
  const inScratch = typeof x === "object" && "kind" in x && x.kind === "scratch";
  const words = { kind: "scratch", offset: inScratch ? bytes : 0 } as const;
  at.scratch(words.offset + 2 * fewRows * columns);
  return callOf(at, program, [...given, unit, words]);
}
