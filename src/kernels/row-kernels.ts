import { sameShape } from "../ir/dim.ts";
import { Capture, type Node } from "../ir/graph.ts";
import {
  add,
  chunk,
  mean,
  mul,
  placeholder,
  roundActivations,
  rsqrt,
  silu,
  square,
  type Digits,
} from "../ops/index.ts";
import {
  attrOf,
  columnsOf,
  constantArg,
  inputOf,
  maxRowsOf,
  rowsArg,
  rowsOf,
  unlimited,
  type Kernel,
  type Lowering,
  type StepDraft,
  type Use,
} from "./kernel.ts";
import { emitRows, type RowSpec } from "./rows.ts";

const x = placeholder("x");
const weight = placeholder("weight");
const digits = new Capture("digits");

const rmsNormMeaning = mul(mul(x, rsqrt(add(mean(square(x)), new Capture("eps")))), weight);
const siluMulMeaning = mul(silu(chunk(x, 2, 0)), chunk(x, 2, 1));

function rowKernel(name: string, source: RowSpec["source"], meaning: Node): Kernel {
  return {
    name,
    meaning,
    accepts: (use) =>
      !use.inputs.has("weight") ||
      sameShape(inputOf(use, "weight").shape, inputOf(use, "x").shape.slice(-1)),
    lower: (use, at) => lowerRows(use, at, source),
  };
}
function lowerRows(use: Use, at: Lowering, source: RowSpec["source"]): StepDraft[] {
  const columns = columnsOf(use.root);
  const maxRows = maxRowsOf(use.root);
  const rounded = use.attrs.has("digits") ? (attrOf(use, "digits") as Digits) : undefined;
  const eps = use.attrs.has("eps") ? attrOf(use, "eps") : undefined;
  const spec: RowSpec = {
    columns,
    source,
    maxRows,
    ...(rounded === undefined ? {} : { digits: rounded }),
    ...(eps === undefined ? {} : { eps }),
  };
  const mark = [
    source,
    columns,
    rounded === undefined ? "f32" : `x${rounded} ${maxRows}`,
    eps ?? "",
  ];
  const program = at.program(mark.join(" ").trim(), (module, name) => emitRows(module, name, spec));
  const norm = use.inputs.get("weight");
  const rows = rowsOf(use.root);
  const args = [
    at.address(inputOf(use, "x")),
    norm ? at.address(norm) : constantArg(0),
    at.address(use.root),
    rowsArg(rows),
  ];
  return [{ name: program, rows, variants: [{ maxRows: unlimited, calls: [{ program, args }] }] }];
}

/** Row kernels, those that also round first. */
export const rowKernels: readonly Kernel[] = [
  rowKernel("rms-norm+round", "rms-norm", roundActivations(rmsNormMeaning, digits)),
  rowKernel("silu-mul+round", "silu-mul", roundActivations(siluMulMeaning, digits)),
  rowKernel("round", "copy", roundActivations(x, digits)),
  rowKernel("rms-norm", "rms-norm", rmsNormMeaning),
  rowKernel("silu-mul", "silu-mul", siluMulMeaning),
];
