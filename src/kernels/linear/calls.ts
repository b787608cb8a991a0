import type { Digits } from "../../ops/index.ts";
import type { Argument, Call, RowCount } from "../../plan/plan.ts";
import { groupBytes, layouts, type IntegerLayout } from "../../quant/compute-layout.ts";
import { isFloat, type FloatFormatName } from "../../quant/formats.ts";
import { markOf, offsetArg, type Lowering, type WeightPart } from "../kernel.ts";
import { callOf, type Given } from "../program.ts";
import { roundedPlace, type RoundedPlace } from "./activations.ts";
import type { RowsKind } from "./dot.ts";
import { emitFloatLinear } from "./float.ts";
import { emitMatmul, matmulScratchBytes } from "./matmul.ts";
import { emitMatvec } from "./matvec.ts";

/** Up to this many rows weights are unpacked in registers, once a row; above, into panels, once for all rows. */
export const fewRows = 3;

/** Rows that a linear reads: f32, or, with `digits`, rounded ones in a place for `maxRows`. */
export interface LinearInput {
  readonly x: Given;
  readonly maxRows: number;
  readonly digits: Digits | undefined;
}

/** Rows that it makes: results, and what is added to them, of `columns` columns. */
export interface LinearOutput {
  readonly y: Argument;
  readonly residual: Argument | undefined;
  readonly columns: number;
  readonly rows: RowCount;
}

/** The call that multiplies rows by one part of a weight; where they are few, threads share the part by `unit` groups. */
export const linearCall = (
  at: Lowering,
  kind: RowsKind,
  part: WeightPart,
  input: LinearInput,
  output: LinearOutput,
  unit = 1,
): Call =>
  isFloat(part.format)
    ? floatCall(at, { ...part, format: part.format }, input, output)
    : integerCall(at, kind, part, input, output, unit);

interface FloatPart extends WeightPart {
  readonly format: FloatFormatName;
}
function floatCall(at: Lowering, part: FloatPart, input: LinearInput, output: LinearOutput): Call {
  const { format, memory } = part;
  const program = at.program(`linear ${format}${markOf(memory)}`, (module, name) =>
    emitFloatLinear(module, name, { format, memory }),
  );
  return callOf(at, program, argumentsOf(part, input, output, { lowOffset: 0, recordOffset: 0 }));
}

function integerCall(
  at: Lowering,
  kind: RowsKind,
  part: WeightPart,
  input: LinearInput,
  output: LinearOutput,
  unit: number,
): Call {
  const { format, columns, memory } = part;
  const { digits = 1, maxRows } = input;
  const layout = layouts[format] as IntegerLayout;
  const spec = { layout, digits, features: at.features, memory, rows: kind };
  const isFew = kind === "few";
  const verb = isFew ? "matvec" : "matmul";
  const program = at.program(`${verb} ${format} x${digits}${markOf(memory)}`, (module, name) =>
    (isFew ? emitMatvec : emitMatmul)(module, name, spec),
  );
  const place = roundedPlace(columns, digits, maxRows);
  const given = argumentsOf(part, input, output, place);
  if (isFew) {
    const words = { kind: "scratch", offset: isScratch(input.x) ? place.bytes : 0 } as const;
    at.scratch(words.offset + 2 * fewRows * columns);
    return callOf(at, program, [...given, unit, words]);
  }
  at.scratch(matmulScratchBytes(spec, columns));
  return callOf(at, program, given);
}

const isScratch = (given: Given): boolean =>
  typeof given === "object" && "kind" in given && given.kind === "scratch";

/** As `linearParams` has them, but for those that the thread knows. */
function argumentsOf(
  part: WeightPart,
  { x }: LinearInput,
  { y, residual, columns: outputs, rows }: LinearOutput,
  { lowOffset, recordOffset }: Pick<RoundedPlace, "lowOffset" | "recordOffset">,
): Given[] {
  const [to, added] = [y, residual].map((at) => (at ? offsetArg(at, 4 * part.firstRow) : 0));
  const { argument: weight, rows: own, columns, format } = part;
  const group = groupBytes(layouts[format], columns);
  return [x, lowOffset, recordOffset, weight, group, to, 4 * outputs, added, own, columns, rows];
}
