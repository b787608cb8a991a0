import { maxOf, sameShape } from "../../ir/dim.ts";
import { Capture } from "../../ir/graph.ts";
import { activationGroup, add, isParam, isRound, linear } from "../../ops/index.ts";
import { placeholder, roundActivations, type Digits } from "../../ops/index.ts";
import type { Argument, Call } from "../../plan/plan.ts";
import { groupBytes, groupRows, layouts } from "../../quant/compute-layout.ts";
import { attrOf, columnsOf, inputOf, markOf, maxRowsOf, offsetArg, rowsOf } from "../kernel.ts";
import type { Kernel, Lowering, ModelFacts, Use } from "../kernel.ts";
import { callOf, fewRows, stepFor, type RowsKind, type Sharing } from "../program.ts";
import { acceptsRows, madeRows, roundedPlace, rowMeanings, rowsCall, siluMul } from "../rows.ts";
import type { SourceName } from "../rows.ts";
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
  lower: (use, at) => linearSteps(use, at, readingsOf(use, at, made), at.address(use.root)),
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
    const y = use.root;
    const [columns, rows, maxRows] = [columnsOf(y), rowsOf(y), maxRowsOf(y)];
    const readings = readingsOf(use, at, made);
    const both = at.temporary("gate and up", 4 * maxRows * 2 * columns);
    const digits = attrOf(use, "gatedDigits") as Digits;
    const from = { source: "silu-mul", x: both, scale: 0, eps: 0 } as const;
    const gated = { ...from, columns, rows, digits, y, maxRows };
    const parts = rowsCall(at, { ...gated, sharing: "parts" });
    const whole = rowsCall(at, { ...gated, sharing: "rows" });
    const step = stepFor(whole.program, rows, { many: [whole] });
    return [...linearSteps(use, at, readings, both, parts), step];
  },
});

export const linearKernels: readonly Kernel[] = [
  ...(["rms-norm", undefined] as const).map(gatedKernel),
  ...(["rms-norm", "copy", undefined] as const).flatMap((made) => [
    linearKernel(made, true),
    linearKernel(made, false),
  ]),
];

/** Rows that a linear reads, f32 or, with `digits`, rounded ones in a place for `maxRows`, and the call that makes them, if any. */
interface Reading {
  readonly x: Argument;
  readonly maxRows: number;
  readonly digits: Digits | undefined;
  readonly made: readonly Call[];
}
type Readings = Readonly<Record<RowsKind, Reading>>;

/** Of few rows each thread makes all for itself, in its scratch: that takes less time than to wait for the others. */
function readingsOf(use: Use, at: Lowering, source: Made): Readings {
  const x = inputOf(use, "x");
  const maxRows = maxRowsOf(x);
  if (source === undefined) {
    const digits = isRound(x) ? (x.number("digits") as Digits) : undefined;
    const given = { x: at.address(x), maxRows, digits, made: [] };
    return { few: given, many: given };
  }
  const rows = madeRows(use, source);
  const { columns, digits = 1 } = rows;
  const bytesFor = (count: number): number => roundedPlace(columns, digits, count).bytes;
  at.scratch(bytesFor(fewRows));
  const reading = (x: Argument, maxRows: number, sharing: Sharing): Reading => {
    const made = rowsCall(at, { ...rows, y: x, maxRows, sharing });
    return { x, maxRows, digits, made: [made] };
  };
  const few = reading(scratchAt(0), fewRows, "own");
  return { few, many: reading(at.temporary("rounded", bytesFor(maxRows)), maxRows, "rows") };
}
const scratchAt = (offset: number): Argument => ({ kind: "scratch", offset });

/**
 * The steps of a linear, behind those that make what many rows read: y of all parts of its weight (+ residual). `then` goes on
 * with the blocks of few rows that a thread has computed.
 */
function linearSteps(use: Use, at: Lowering, { few, many }: Readings, y: Argument, then?: Call) {
  const [weight, rows] = [inputOf(use, "weight"), rowsOf(use.root)];
  const added = use.inputs.get("residual");
  const unit = then ? activationGroup / groupRows : 1;
  const yStride = 4 * maxOf(weight.shape[0]);
  const { revectorize } = at.features;
  const calls = (kind: RowsKind, { x, maxRows, digits }: Reading): Call[] =>
    at.weight(weight).map((part) => {
      const { format, columns, memory } = part;
      const [layout, mark] = [layouts[format], markOf(memory)];
      const to = (place: Argument): Argument => offsetArg(place, 4 * part.firstRow);
      const out = { y: to(y), yStride, residual: added ? to(at.address(added)) : 0 };
      const matrix = { weight: part.argument, groupBytes: groupBytes(layout, columns) };
      const sizes = { outputs: part.rows, columns, rows };
      const given = { x, lowOffset: 0, recordOffset: 0, ...matrix, ...out, ...sizes };
      if (layout.kind === "float" || digits === undefined)
        return callOf(at, `linear ${format}${mark}`, given, (func) => emitFloatLinear(func, part));
      const { lowOffset, recordOffset, bytes } = roundedPlace(columns, digits, maxRows);
      const rounded = { ...given, lowOffset, recordOffset };
      const plan = quantPlan(layout, at.features, digits, kind);
      const name = `${kind === "few" ? "matvec" : "matmul"} ${format} x${digits}${mark}`;
      const spec = { layout, digits, plan, revectorize, memory, mark: name };
      if (kind === "many") {
        at.scratch(matmulScratchBytes(spec, columns));
        return callOf(at, name, rounded, (func) => emitMatmul({ ...func, ...spec }));
      }
      const offset = x.kind === "scratch" ? bytes : 0;
      at.scratch(offset + 2 * fewRows * columns);
      const few = { ...rounded, unit, words: scratchAt(offset) };
      return callOf(at, name, few, (func) => emitMatvec({ ...func, ...spec }));
    });
  const step = stepFor(`linear ${weight.string("name")}`, rows, {
    few: [...few.made, ...calls("few", few), ...(then ? [then] : [])],
    many: calls("many", many),
  });
  const before = many.made.map((call) => stepFor(call.program, rows, { many: [call] }));
  return [...before, step];
}
