import { sameShape } from "../../ir/dim.ts";
import type { Node } from "../../ir/graph.ts";
import { add, isParam, isRound, linear, placeholder, take, type Digits } from "../../ops/index.ts";
import type { Argument, Call } from "../../plan/plan.ts";
import {
  columnsOf,
  constantArg,
  inputOf,
  maxRowsOf,
  offsetArg,
  rowsArg,
  rowsOf,
  unlimited,
  type Kernel,
  type Lowering,
  type StepDraft,
  type Use,
  type WeightPart,
} from "../kernel.ts";
import type { FloatFormatName } from "../../quant/formats.ts";
import { roundedPlace } from "./activations.ts";
import type { LinearSpec } from "./block.ts";
import { emitEmbed } from "./embed.ts";
import { emitFloatLinear } from "./float.ts";
import { layouts } from "../../quant/compute-layout.ts";
import { emitMatmul, matmulScratchBytes } from "./matmul.ts";
import { emitMatvec } from "./matvec.ts";

/** Up to this many rows weights are unpacked in registers, once a row; above, into panels, once for all rows. */
const fewRows = 3;

const x = placeholder("x");
const weight = placeholder("weight");
const residual = placeholder("residual");

function linearKernel(name: string, meaning: Node): Kernel {
  return {
    name,
    meaning,
    accepts: (use, model) => {
      const added = use.inputs.get("residual");
      if (added && !sameShape(added.shape, use.root.shape)) return false;
      const w = inputOf(use, "weight");
      if (!isParam(w) || !model.isPacked(w)) return false;
      return isRound(inputOf(use, "x")) === model.isInteger(w);
    },
    lower: lowerLinear,
  };
}

/** y = x Wᵀ + residual, and without: on rounded activations for integer weights, on f32 for others. */
export const linearResidual: Kernel = linearKernel(
  "linear+residual",
  add(residual, linear(x, weight)),
);
export const plainLinear: Kernel = linearKernel("linear", linear(x, weight));

function lowerLinear(use: Use, at: Lowering): StepDraft[] {
  const weight = inputOf(use, "weight");
  const calls = at.weight(weight).map((part) => partCalls(use, at, part));
  const variants = [
    { maxRows: fewRows, calls: calls.map(({ few }) => few) },
    { maxRows: unlimited, calls: calls.map(({ many }) => many) },
  ];
  const kind = use.inputs.has("residual") ? "linear+residual" : "linear";
  return [{ name: `${kind} ${weight.string("name")}`, rows: rowsOf(use.root), variants }];
}

function partCalls(use: Use, at: Lowering, part: WeightPart): { few: Call; many: Call } {
  const { format, columns } = part;
  const input = inputOf(use, "x");
  const added = use.inputs.get("residual");
  const residual = added !== undefined;
  const outputOf = (node: Node): Argument => offsetArg(at.address(node), 4 * part.firstRow);
  const argsFor = (lowOffset: number, recordOffset: number): Argument[] => [
    at.address(input),
    constantArg(lowOffset),
    constantArg(recordOffset),
    part.argument,
    outputOf(use.root),
    constantArg(4 * columnsOf(use.root)),
    added ? outputOf(added) : constantArg(0),
    constantArg(part.rows),
    rowsArg(rowsOf(use.root)),
  ];
  const suffix = `${format} ${columns}${residual ? " +residual" : ""}`;
  const layout = layouts[format];
  if (layout.kind === "float") {
    const spec = { format: format as FloatFormatName, columns, residual };
    const program = at.program(`linear ${suffix}`, (module, name) =>
      emitFloatLinear(module, name, spec),
    );
    const call = { program, args: argsFor(0, 0) };
    return { few: call, many: call };
  }
  const digits = input.number("digits") as Digits;
  const spec: LinearSpec = { layout, columns, digits, features: at.features, residual };
  at.scratch(matmulScratchBytes(spec));
  const matvec = at.program(`matvec ${suffix} x${digits}`, (module, name) =>
    emitMatvec(module, name, spec),
  );
  const matmul = at.program(`matmul ${suffix} x${digits}`, (module, name) =>
    emitMatmul(module, name, spec),
  );
  const { lowOffset, recordOffset } = roundedPlace(columns, digits, maxRowsOf(input));
  const args = argsFor(lowOffset, recordOffset);
  return { few: { program: matvec, args }, many: { program: matmul, args } };
}

const ids = placeholder("ids");

/** Rows of a packed table by id, as f32. */
export const embed: Kernel = {
  name: "embed",
  meaning: take(weight, ids),
  accepts: (use, model) =>
    isParam(inputOf(use, "weight")) && model.isPacked(inputOf(use, "weight")),
  lower: (use, at) => {
    const table = inputOf(use, "weight");
    const calls = at.weight(table).map((part) => {
      const program = at.program(`embed ${part.format} ${part.columns}`, (module, name) =>
        emitEmbed(module, name, part.format, part.columns),
      );
      const args = [
        part.argument,
        at.address(inputOf(use, "ids")),
        at.address(use.root),
        constantArg(part.firstRow),
        constantArg(part.rows),
        rowsArg(rowsOf(use.root)),
      ];
      return { program, args };
    });
    return [
      {
        name: `embed ${table.string("name")}`,
        rows: rowsOf(use.root),
        variants: [{ maxRows: unlimited, calls }],
      },
    ];
  },
};
