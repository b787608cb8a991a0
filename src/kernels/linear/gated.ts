import { Capture } from "../../ir/graph.ts";
import {
  activationGroup,
  linear,
  placeholder,
  roundActivations,
  type Digits,
} from "../../ops/index.ts";
import type { Call } from "../../plan/plan.ts";
import { groupRows } from "../../quant/compute-layout.ts";
import { attrOf, columnsOf, inputOf, maxRowsOf, rowsOf, type Kernel } from "../kernel.ts";
import { rowsCall, siluMul } from "../row-kernels.ts";
import { linearCall, type LinearInput } from "./calls.ts";
import type { RowsKind } from "./dot.ts";
import { acceptsReading, readingMeaning, readingOf, stepFor, type Made } from "./reading.ts";

/**
 * round(silu(gate) × up), gate and up from one linear. Of few rows each thread makes the same blocks of both and goes on with them:
 * no thread waits for another.
 */
export const gatedKernel = (made: Made): Kernel => ({
  name: `${made ? `${made}+round+` : ""}linear+silu-mul+round`,
  meaning: roundActivations(
    siluMul(linear(readingMeaning(made), placeholder("weight"))),
    new Capture("gatedDigits"),
  ),
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
    const weight = inputOf(use, "weight");
    const { few, many, prologue, before } = readingOf(use, at, made);
    const both = at.temporary("gate and up", 4 * maxRows * 2 * columns);
    const linears = (kind: RowsKind, input: LinearInput): Call[] =>
      at.weight(weight).map((part) => {
        const output = { y: both, residual: undefined, columns: 2 * columns, rows };
        return linearCall(at, kind, part, input, output, activationGroup / groupRows);
      });
    const digits = attrOf(use, "gatedDigits") as Digits;
    const gated = { source: "silu-mul", x: both, scale: 0, eps: 0, columns, digits } as const;
    const [parts, whole] = (["parts", "rows"] as const).map((by) =>
      rowsCall(at, gated, { y: root, rows, maxRows }, by),
    );
    return [
      ...before,
      stepFor(`linear ${weight.string("name")}`, use, {
        few: [...prologue, ...linears("few", few), parts],
        many: linears("many", many),
      }),
      stepFor(whole.program, use, { few: [], many: [whole] }),
    ];
  },
});
