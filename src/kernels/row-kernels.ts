import { i32, type Body, type Local } from "../codegen/wasm/builder.ts";
import { sameShape } from "../ir/dim.ts";
import { Capture, type Node } from "../ir/graph.ts";
import { activationGroup, add, chunk, mean, mul, placeholder } from "../ops/index.ts";
import { roundActivations, rsqrt, silu, square, type Digits } from "../ops/index.ts";
import type { Call, RowCount } from "../plan/plan.ts";
import { attrOf, columnsOf, inputOf, maxRowsOf, rowsOf } from "./kernel.ts";
import type { Kernel, Lowering, Use } from "./kernel.ts";
import { roundedPlace } from "./linear/activations.ts";
import { rowAt, rowCall, stepOf, type Given, type RowParams, type Sharing } from "./program.ts";
import { emitPlain, emitRounded, sources, type Source, type SourceName } from "./rows.ts";

const x = placeholder("x");

/** silu(first half) × second half. */
export const siluMul = (both: Node): Node => mul(silu(chunk(both, 2, 0)), chunk(both, 2, 1));

/** What makes one row of another: rows of `x`, for the norm times `scale`. */
export const rowMeanings: Readonly<Record<SourceName, Node>> = {
  "rms-norm": mul(mul(x, rsqrt(add(mean(square(x)), new Capture("eps")))), placeholder("scale")),
  "silu-mul": siluMul(x),
  copy: x,
};

/** Whether rows can be made of what is found in the graph. */
export const acceptsRows = (use: Use): boolean =>
  !use.inputs.has("scale") ||
  sameShape(inputOf(use, "scale").shape, inputOf(use, "x").shape.slice(-1));

/** Rows that are made of others. */
export interface MadeRows {
  readonly source: SourceName;
  readonly x: Given;
  readonly scale: Given;
  readonly eps: number;
  readonly columns: number;
  readonly rows: RowCount;
  /** f32 where absent. */
  readonly digits: Digits | undefined;
}

/** The rows that a use of a meaning asks for. */
export function madeRows(use: Use, source: SourceName): MadeRows {
  const x = inputOf(use, "x");
  return {
    source,
    x,
    scale: use.inputs.get("scale") ?? 0,
    eps: use.attrs.has("eps") ? attrOf(use, "eps") : 0,
    columns: columnsOf(x) / (source === "silu-mul" ? 2 : 1),
    rows: rowsOf(x),
    digits: use.attrs.get("digits") as Digits | undefined,
  };
}

/**
 * The call that makes rows, f32 or rounded for an integer matmul, at `y`, which has place for `maxRows` of them; a part of a row is
 * a block of rounded values.
 */
export function rowsCall(
  at: Lowering,
  { source, x, scale, eps, columns, rows, digits }: MadeRows,
  y: Given,
  maxRows: number,
  sharing: Sharing = "rows",
): Call {
  const emitSource = (body: Body, row: Local<"i32">, p: RowParams<"x" | "scale">): Source => {
    const from = rowAt(body, p.x, row, 4 * columns * (source === "silu-mul" ? 2 : 1));
    return sources[source](body, { x: from, scale: p.scale, columns, eps });
  };
  const name = `${source} ${columns} ${eps || ""}`.trim();
  if (digits === undefined)
    return rowCall(at, name, { rows }, { x, scale, y }, (body, row, p) =>
      emitPlain(body, emitSource(body, row, p), rowAt(body, p.y, row, 4 * columns), columns),
    );
  const place = roundedPlace(columns, digits, maxRows);
  const { lowOffset, recordOffset } = place;
  const work = { rows, parts: columns / activationGroup, sharing };
  const given = { x, scale, y, lowOffset, recordOffset };
  return rowCall(at, `${name} x${digits}`, work, given, (body, row, p, blocks) =>
    emitRounded(body, emitSource(body, row, p), blocks, digits, {
      digits: rowAt(body, p.y, row, place.rowBytes),
      lowOffset: p.lowOffset,
      records: rowAt(body, i32.add(p.y, p.recordOffset), row, place.recordRowBytes),
    }),
  );
}

const rowKernel = (source: SourceName, meaning: Node): Kernel => ({
  meaning,
  accepts: acceptsRows,
  lower: (use, at) => {
    const { root } = use;
    const call = rowsCall(at, madeRows(use, source), root, maxRowsOf(root));
    return [stepOf(call.program, rowsOf(root), call)];
  },
});

/** Row kernels, those that also round first. */
export const rowKernels: readonly Kernel[] = [
  ...(["rms-norm", "silu-mul", "copy"] as const).map((source) =>
    rowKernel(source, roundActivations(rowMeanings[source], new Capture("digits"))),
  ),
  ...(["rms-norm", "silu-mul"] as const).map((source) => rowKernel(source, rowMeanings[source])),
];
