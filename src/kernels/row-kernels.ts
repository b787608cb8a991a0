import { i32 } from "../codegen/wasm/builder.ts";
import { sameShape } from "../ir/dim.ts";
import { Capture, type Node } from "../ir/graph.ts";
import { add, chunk, mean, mul, rsqrt, silu, square } from "../ops/index.ts";
import { activationGroup, placeholder, roundActivations, type Digits } from "../ops/index.ts";
import { attrOf, columnsOf, inputOf, maxRowsOf, rowsOf } from "./kernel.ts";
import type { Kernel, Lowering, StepDraft, Use } from "./kernel.ts";
import { roundedPlace } from "./linear/activations.ts";
import { rowAt, rowCall, stepOf, type RowEmit } from "./program.ts";
import { emitPlain, emitRounded, sources, type SourceName } from "./rows.ts";

const x = placeholder("x");
const weight = placeholder("weight");
const digits = new Capture("digits");

const rmsNormMeaning = mul(mul(x, rsqrt(add(mean(square(x)), new Capture("eps")))), weight);
const siluMulMeaning = mul(silu(chunk(x, 2, 0)), chunk(x, 2, 1));

/** Makes one output row of one input row: f32, or rounded for an integer matmul where the meaning has `digits`. */
function rowKernel(name: string, source: SourceName, meaning: Node): Kernel {
  return {
    name,
    meaning,
    accepts: (use) =>
      !use.inputs.has("weight") ||
      sameShape(inputOf(use, "weight").shape, inputOf(use, "x").shape.slice(-1)),
    lower: (use, at) => [lowerRows(use, at, source)],
  };
}

function lowerRows(use: Use, at: Lowering, source: SourceName): StepDraft {
  const { root, attrs, inputs } = use;
  const x = inputOf(use, "x");
  const [columns, rows, maxRows] = [columnsOf(root), rowsOf(root), maxRowsOf(root)];
  const digits = attrs.get("digits") as Digits | undefined;
  const eps = attrs.has("eps") ? attrOf(use, "eps") : undefined;
  const to = digits === undefined ? "f32" : `x${digits} ${maxRows}`;
  const name = `${source} ${columns} ${to} ${eps ?? ""}`.trim();
  const given = { x, weight: inputs.get("weight") ?? 0, y: root };
  const emit: RowEmit<"x" | "weight" | "y"> = (body, row, p, blocks) => {
    const from = rowAt(body, p.x, row, 4 * columnsOf(x));
    const values = sources[source](body, { x: from, weight: p.weight, columns, eps: eps ?? 0 });
    if (digits === undefined)
      return emitPlain(body, values, rowAt(body, p.y, row, 4 * columns), columns);
    const place = roundedPlace(columns, digits, maxRows);
    const records = i32.add(p.y, place.recordOffset);
    emitRounded(body, values, blocks, digits, {
      digits: rowAt(body, p.y, row, place.rowBytes),
      lowOffset: place.lowOffset,
      records: rowAt(body, records, row, place.recordRowBytes),
    });
  };
  const blocks = digits === undefined ? 1 : columns / activationGroup;
  const call = rowCall(at, name, rows, given, emit, blocks);
  return stepOf(name, rows, call);
}

/** Row kernels, those that also round first. */
export const rowKernels: readonly Kernel[] = [
  rowKernel("rms-norm+round", "rms-norm", roundActivations(rmsNormMeaning, digits)),
  rowKernel("silu-mul+round", "silu-mul", roundActivations(siluMulMeaning, digits)),
  rowKernel("round", "copy", roundActivations(x, digits)),
  rowKernel("rms-norm", "rms-norm", rmsNormMeaning),
  rowKernel("silu-mul", "silu-mul", siluMulMeaning),
];
