import { sameShape } from "../../ir/dim.ts";
import type { Node } from "../../ir/graph.ts";
import { add, isParam, isRound, linear, placeholder, type Digits } from "../../ops/index.ts";
import type { Argument, Call } from "../../plan/plan.ts";
import { layouts } from "../../quant/compute-layout.ts";
import type { FloatFormatName } from "../../quant/formats.ts";
import { columnsOf, inputOf, markOf, maxRowsOf, offsetArg, rowsOf } from "../kernel.ts";
import type { Kernel, Lowering, Use, WeightPart } from "../kernel.ts";
import { callOf, unlimited } from "../program.ts";
import { roundedPlace } from "./activations.ts";
import type { LinearSpec } from "./block.ts";
import { emitFloatLinear } from "./float.ts";
import { emitMatmul, matmulScratchBytes } from "./matmul.ts";
import { emitMatvec } from "./matvec.ts";

/** Up to this many rows weights are unpacked in registers, once a row; above, into panels, once for all rows. */
const fewRows = 3;

const linearKernel = (name: string, meaning: Node): Kernel => ({
  name,
  meaning,
  accepts: (use, model) => {
    const added = use.inputs.get("residual");
    if (added && !sameShape(added.shape, use.root.shape)) return false;
    const weight = inputOf(use, "weight");
    if (!isParam(weight) || !model.isPacked(weight)) return false;
    return isRound(inputOf(use, "x")) === model.isInteger(weight);
  },
  lower: (use, at) => {
    const weight = inputOf(use, "weight");
    const calls = at.weight(weight).map((part) => partCalls(use, at, part));
    const variants = [
      { maxRows: fewRows, calls: calls.map(({ few }) => few) },
      { maxRows: unlimited, calls: calls.map(({ many }) => many) },
    ];
    return [{ name: `${name} ${weight.string("name")}`, rows: rowsOf(use.root), variants }];
  },
});

const plain = linear(placeholder("x"), placeholder("weight"));
/** y = x Wᵀ + residual, and without: on rounded activations for integer weights, on f32 for others. */
export const linearKernels: readonly Kernel[] = [
  linearKernel("linear+residual", add(placeholder("residual"), plain)),
  linearKernel("linear", plain),
];

function partCalls(use: Use, at: Lowering, part: WeightPart): { few: Call; many: Call } {
  const { format, columns } = part;
  const x = inputOf(use, "x");
  const added = use.inputs.get("residual");
  const columnsFrom = (node: Node): Argument => offsetArg(at.address(node), 4 * part.firstRow);
  const callWith = (program: string, lowOffset = 0, recordOffset = 0): Call => {
    const [y, residual] = [columnsFrom(use.root), added ? columnsFrom(added) : 0];
    const yStride = 4 * columnsOf(use.root);
    const sizes = [part.rows, rowsOf(use.root)];
    const weight = part.argument;
    return callOf(at, program, [
      x,
      lowOffset,
      recordOffset,
      weight,
      y,
      yStride,
      residual,
      ...sizes,
    ]);
  };
  const residual = added !== undefined;
  const { memory } = part;
  const suffix = `${format} ${columns}${residual ? " +residual" : ""}${markOf(memory)}`;
  const layout = layouts[format];
  if (layout.kind === "float") {
    const spec = { format: format as FloatFormatName, columns, residual, memory };
    const program = at.program(`linear ${suffix}`, (module, name) =>
      emitFloatLinear(module, name, spec),
    );
    return { few: callWith(program), many: callWith(program) };
  }
  const digits = x.number("digits") as Digits;
  const spec: LinearSpec = { layout, columns, digits, features: at.features, residual, memory };
  at.scratch(matmulScratchBytes(spec));
  const { lowOffset, recordOffset } = roundedPlace(columns, digits, maxRowsOf(x));
  const rounded = (kind: string, emit: typeof emitMatvec): Call => {
    const program = `${kind} ${suffix} x${digits}`;
    at.program(program, (module, name) => emit(module, name, spec));
    return callWith(program, lowOffset, recordOffset);
  };
  return { few: rounded("matvec", emitMatvec), many: rounded("matmul", emitMatmul) };
}
