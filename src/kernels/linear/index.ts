import { maxOf, sameShape } from "../../ir/dim.ts";
import { Capture } from "../../ir/graph.ts";
import { activationGroup, add, isParam, isRound, linear } from "../../ops/index.ts";
import { placeholder, roundActivations, type Digits } from "../../ops/index.ts";
import type { Argument, Call } from "../../plan/plan.ts";
import { groupBytes, groupRows, layouts } from "../../quant/compute-layout.ts";
import { attrOf, columnsOf, inputOf, markOf, maxRowsOf, offsetArg, rowsOf } from "../kernel.ts";
import type { Kernel, Lowering, ModelFacts, StepDraft, Use, WeightPart } from "../kernel.ts";
import { callOf, fewRows, stepFor, type RowsKind } from "../program.ts";
import { acceptsRows, madeRows, rowMeanings, rowsCall, siluMul, type SourceName } from "../rows.ts";
import { roundedPlace } from "./activations.ts";
import { quantPlan } from "./dot.ts";
import { emitFloatLinear } from "./float.ts";
import { emitMatmul, matmulScratchBytes } from "./matmul.ts";
import { emitMatvec } from "./matvec.ts";

/** What the rows of a linear are made of by the same kernel; undefined where they are there already. */
type Made = Exclude<SourceName, "silu-mul"> | undefined;

const product = (made: Made) => {
  const rounded = made && roundActivations(rowMeanings[made], new Capture("digits"));
  return linear(rounded ?? placeholder("x"), placeholder("weight"));
};

/**
 * Whether the rows and the weight fit each other: integer weights are multiplied by rounded rows, others by f32. An elementwise
 * value is left to the kernel that computes it, as that may round it too.
 */
function acceptsReading(use: Use, model: ModelFacts, made: Made): boolean {
  const [weight, x] = [inputOf(use, "weight"), inputOf(use, "x")];
  if (made === "copy" && x.op.kind === "elementwise") return false;
  const isRounded = made !== undefined || isRound(x);
  const isPacked = isParam(weight) && model.isPacked(weight);
  return isPacked && model.isInteger(weight) === isRounded && acceptsRows(use);
}

/** y = x Wᵀ (+ residual): of rounded rows for integer weights, of f32 for others. */
const linearKernel = (made: Made, hasResidual: boolean): Kernel => ({
  meaning: hasResidual ? add(placeholder("residual"), product(made)) : product(made),
  accepts: (use, model) => {
    const { root, inputs } = use;
    const added = inputs.get("residual") ?? root;
    return sameShape(added.shape, root.shape) && acceptsReading(use, model, made);
  },
  lower: (use, at) => linearSteps(use, at, readingOf(use, at, made), at.address(use.root)),
});

/**
 * round(silu(gate) × up), gate and up from one linear. Of few rows each thread makes the same blocks of both and goes on with them:
 * no thread waits for another.
 */
const gatedKernel = (made: Made): Kernel => ({
  meaning: roundActivations(siluMul(product(made)), new Capture("gatedDigits")),
  accepts: (use, model) => {
    const half = columnsOf(use.root);
    return (
      half % activationGroup === 0 &&
      acceptsReading(use, model, made) &&
      model.partRows(inputOf(use, "weight")).join() === [half, half].join()
    );
  },
  lower: (use, at) => {
    const { root } = use;
    const [columns, rows, maxRows] = [columnsOf(root), rowsOf(root), maxRowsOf(root)];
    const reading = readingOf(use, at, made);
    const both = at.temporary("gate and up", 4 * maxRows * 2 * columns);
    const digits = attrOf(use, "gatedDigits") as Digits;
    const gated = { source: "silu-mul", x: both, scale: 0, eps: 0, columns, digits, rows } as const;
    const parts = rowsCall(at, gated, root, maxRows, "parts");
    const whole = rowsCall(at, gated, root, maxRows);
    return [
      ...linearSteps(use, at, reading, both, [parts]),
      stepFor(whole.program, rows, { few: [], many: [whole] }),
    ];
  },
});

export const linearKernels: readonly Kernel[] = [
  ...(["rms-norm", undefined] as const).map(gatedKernel),
  ...(["rms-norm", "copy", undefined] as const).flatMap((made) => [
    linearKernel(made, true),
    linearKernel(made, false),
  ]),
];

/** Rows that a linear reads: f32, or, with `digits`, rounded ones in a place for `maxRows`. */
interface LinearInput {
  readonly x: Argument;
  readonly maxRows: number;
  readonly digits: Digits | undefined;
}

/** What a linear reads, and what makes it: calls in front of those that read `few`, steps in front of those that read `many`. */
interface Reading extends Readonly<Record<RowsKind, LinearInput>> {
  readonly prologue: readonly Call[];
  readonly before: readonly StepDraft[];
}

/** Of few rows each thread makes all for itself, in its scratch: that takes less time than to wait for the others. */
function readingOf(use: Use, at: Lowering, source: Made): Reading {
  const x = inputOf(use, "x");
  const maxRows = maxRowsOf(x);
  if (source === undefined) {
    const digits = isRound(x) ? (x.number("digits") as Digits) : undefined;
    const given = { x: at.address(x), maxRows, digits };
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

/**
 * The steps of a linear, behind those that make what it reads: y of all parts of its weight (+ residual). `then`: calls that go on
 * with the blocks of few rows that a thread has computed.
 */
function linearSteps(
  use: Use,
  at: Lowering,
  { few, many, prologue, before }: Reading,
  y: Argument,
  then: readonly Call[] = [],
): StepDraft[] {
  const [weight, rows] = [inputOf(use, "weight"), rowsOf(use.root)];
  const added = use.inputs.get("residual");
  const unit = then.length > 0 ? activationGroup / groupRows : 1;
  const yStride = 4 * maxOf(weight.shape[0]);
  const calls = (kind: RowsKind, { x, maxRows, digits }: LinearInput): Call[] =>
    at.weight(weight).map((part) => {
      const { columns, format } = part;
      const program = programFor(at, kind, part, digits);
      const to = (place: Argument): Argument => offsetArg(place, 4 * part.firstRow);
      const residual = added ? to(at.address(added)) : 0;
      const group = groupBytes(layouts[format], columns);
      // as `linearParams` has them, behind what x is
      const rest = [part.argument, group, to(y), yStride, residual, part.rows, columns, rows];
      if (digits === undefined) return callOf(at, program, [x, 0, 0, ...rest]);
      const { lowOffset, recordOffset, bytes } = roundedPlace(columns, digits, maxRows);
      const given = [x, lowOffset, recordOffset, ...rest];
      if (kind === "many") return callOf(at, program, given);
      const words = { kind: "scratch", offset: x.kind === "scratch" ? bytes : 0 } as const;
      at.scratch(words.offset + 2 * fewRows * columns);
      return callOf(at, program, [...given, unit, words]);
    });
  const step = stepFor(`linear ${weight.string("name")}`, rows, {
    few: [...prologue, ...calls("few", few), ...then],
    many: calls("many", many),
  });
  return [...before, step];
}

/** The program that multiplies rows by one part of a weight. */
function programFor(at: Lowering, kind: RowsKind, part: WeightPart, digits: Digits | undefined) {
  const { format, columns, memory } = part;
  const [layout, mark] = [layouts[format], markOf(memory)];
  if (layout.kind === "float" || digits === undefined)
    return at.program(`linear ${format}${mark}`, (module, name) =>
      emitFloatLinear(module, name, part),
    );
  const { revectorize } = at.features;
  const plan = quantPlan(layout, at.features, digits, kind);
  const spec = { layout, digits, plan, revectorize, memory };
  if (kind === "many") at.scratch(matmulScratchBytes(spec, columns));
  const [verb, emit] =
    kind === "few" ? (["matvec", emitMatvec] as const) : (["matmul", emitMatmul] as const);
  return at.program(`${verb} ${format} x${digits}${mark}`, (module, name) =>
    emit(module, name, spec),
  );
}
