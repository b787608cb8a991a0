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
import { isFloat } from "../../quant/formats.ts";
import { roundedPlace } from "./activations.ts";
import type { LinearSpec } from "./block.ts";
import { emitEmbed } from "./embed.ts";
import { emitFloatLinear } from "./float.ts";
import { layouts } from "../../quant/compute-layout.ts";
import { emitMatmul, matmulScratchBytes } from "./matmul.ts";
import { emitMatvec } from "./matvec.ts";

/** Up to this many rows weights are unpacked in registers, once a row; above, into panels, once for all rows. */
const fewRows = 3;
/** Groups of rows in flight a thread in the mat-vec. */
const streamsOf = (digits: Digits): number => (digits === 1 ? 4 : 2);

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
  const parts = at.weight(inputOf(use, "weight"));
  const few: Call[] = [];
  const many: Call[] = [];
  for (const part of parts) {
    const calls = partCalls(use, at, part);
    few.push(calls.few);
    many.push(calls.many);
  }
  const rows = rowsOf(use.root);
  const name = `${use.inputs.has("residual") ? "linear+residual" : "linear"} ${inputOf(use, "weight").string("name")}`;
  return [
    {
      name,
      rows,
      variants: [
        { maxRows: fewRows, calls: few },
        { maxRows: unlimited, calls: many },
      ],
    },
  ];
}

function partCalls(use: Use, at: Lowering, part: WeightPart): { few: Call; many: Call } {
  const input = inputOf(use, "x");
  const added = use.inputs.get("residual");
  const hasResidual = added !== undefined;
  const suffix = `${part.format} ${part.columns}${hasResidual ? " +residual" : ""}`;
  const width = columnsOf(use.root);
  const args = (lowOffset: number, recordOffset: number): Argument[] => [
    at.address(input),
    constantArg(lowOffset),
    constantArg(recordOffset),
    part.argument,
    offsetArg(at.address(use.root), 4 * part.firstRow),
    constantArg(4 * width),
    added ? offsetArg(at.address(added), 4 * part.firstRow) : constantArg(0),
    constantArg(part.rows),
    rowsArg(rowsOf(use.root)),
  ];
  const layout = layouts[part.format];
  if (isFloat(part.format) || layout.kind === "float") {
    const format = part.format as "f32" | "f16" | "bf16";
    at.scratch(64);
    const program = at.program(`linear ${suffix}`, (module, name) =>
      emitFloatLinear(module, name, { format, columns: part.columns, residual: hasResidual }),
    );
    const call = { program, args: args(0, 0) };
    return { few: call, many: call };
  }
  const digits = input.number("digits") as Digits;
  const spec: LinearSpec = { layout, columns: part.columns, digits, features: at.features };
  const place = roundedPlace(part.columns, digits, maxRowsOf(input));
  at.scratch(matmulScratchBytes(spec));
  const mark = `${suffix} x${digits}`;
  const matvec = at.program(`matvec ${mark}`, (module, name) =>
    emitMatvec(module, name, { ...spec, residual: hasResidual, streams: streamsOf(digits) }),
  );
  const matmul = at.program(`matmul ${mark}`, (module, name) =>
    emitMatmul(module, name, { ...spec, residual: hasResidual }),
  );
  const both = args(place.lowOffset, place.recordOffset);
  return { few: { program: matvec, args: both }, many: { program: matmul, args: both } };
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
