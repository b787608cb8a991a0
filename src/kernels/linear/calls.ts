import type { Digits } from "../../ops/index.ts";
import type { Argument, Call, RowCount } from "../../plan/plan.ts";
import { groupBytes, layouts } from "../../quant/compute-layout.ts";
import { markOf, offsetArg, type Lowering, type WeightPart } from "../kernel.ts";
import { callOf, type Given } from "../program.ts";
import { roundedPlace } from "./activations.ts";
import { quantPlan, type RowsKind } from "./dot.ts";
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
  /** Groups that threads do not part where rows are few. */
  readonly unit: number;
}

/** The call that multiplies rows by one part of a weight. */
export function linearCall(
  at: Lowering,
  kind: RowsKind,
  part: WeightPart,
  { x, maxRows, digits }: LinearInput,
  output: LinearOutput,
): Call {
  const { format, columns, memory } = part;
  const [layout, mark] = [layouts[format], markOf(memory)];
  if (layout.kind === "float" || digits === undefined) {
    const program = at.program(`linear ${format}${mark}`, (module, name) =>
      emitFloatLinear(module, name, part),
    );
    return callOf(at, program, [x, 0, 0, ...argumentsOf(part, output)]);
  }
  const { revectorize } = at.features;
  const plan = quantPlan(layout, at.features, digits, kind);
  const spec = { layout, digits, plan, revectorize, memory };
  const [verb, emit] =
    kind === "few" ? (["matvec", emitMatvec] as const) : (["matmul", emitMatmul] as const);
  const program = at.program(`${verb} ${format} x${digits}${mark}`, (module, name) =>
    emit(module, name, spec),
  );
  const place = roundedPlace(columns, digits, maxRows);
  const given = [x, place.lowOffset, place.recordOffset, ...argumentsOf(part, output)];
  if (kind === "many") {
    at.scratch(matmulScratchBytes(spec, columns));
    return callOf(at, program, given);
  }
  const words = { kind: "scratch", offset: isScratch(x) ? place.bytes : 0 } as const;
  at.scratch(words.offset + 2 * fewRows * columns);
  return callOf(at, program, [...given, output.unit, words]);
}

const isScratch = (given: Given): boolean =>
  typeof given === "object" && "kind" in given && given.kind === "scratch";

/** As `linearParams` has them, from the weight on to the rows. */
function argumentsOf(
  part: WeightPart,
  { y, residual, columns: outputs, rows }: LinearOutput,
): Given[] {
  const [to, added] = [y, residual].map((at) => (at ? offsetArg(at, 4 * part.firstRow) : 0));
  const { argument: weight, rows: own, columns, format } = part;
  const group = groupBytes(layouts[format], columns);
  return [weight, group, to, 4 * outputs, added, own, columns, rows];
}
