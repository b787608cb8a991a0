import { sameShape } from "../../ir/dim.ts";
import { Capture } from "../../ir/graph.ts";
import { activationGroup, add, linear, placeholder, roundActivations } from "../../ops/index.ts";
import type { Digits } from "../../ops/index.ts";
import { groupRows } from "../../quant/compute-layout.ts";
import { attrOf, columnsOf, inputOf, maxRowsOf, rowsOf, type Kernel } from "../kernel.ts";
import { rowsCall, siluMul } from "../rows.ts";
import { stepFor } from "../program.ts";
import { acceptsReading, linearSteps, readingMeaning, readingOf, type Made } from "./steps.ts";

const product = (made: Made) => linear(readingMeaning(made), placeholder("weight"));

/** y = x Wᵀ (+ residual): of rounded rows for integer weights, of f32 for others. */
const linearKernel = (made: Made, hasResidual: boolean): Kernel => ({
  meaning: hasResidual ? add(placeholder("residual"), product(made)) : product(made),
  accepts: (use, model) => {
    const { root, inputs } = use;
    const added = inputs.get("residual") ?? root;
    return sameShape(added.shape, root.shape) && acceptsReading(use, model, made);
  },
  lower: (use, at) => {
    const { root, inputs } = use;
    const reading = readingOf(use, at, made);
    const added = inputs.get("residual");
    return linearSteps(use, at, reading, {
      y: at.address(root),
      residual: added && at.address(added),
      columns: columnsOf(root),
      rows: rowsOf(root),
      unit: 1,
    });
  },
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
    const { root } = use;
    const [columns, rows, maxRows] = [columnsOf(root), rowsOf(root), maxRowsOf(root)];
    const reading = readingOf(use, at, made);
    const both = at.temporary("gate and up", 4 * maxRows * 2 * columns);
    const digits = attrOf(use, "gatedDigits") as Digits;
    const gated = { source: "silu-mul", x: both, scale: 0, eps: 0, columns, digits, rows } as const;
    const parts = rowsCall(at, gated, root, maxRows, "parts");
    const whole = rowsCall(at, gated, root, maxRows);
    const unit = activationGroup / groupRows;
    const output = { y: both, residual: undefined, columns: 2 * columns, rows, unit };
    return [
      ...linearSteps(use, at, reading, output, [parts]),
      stepFor(whole.program, rows, { few: [], many: [whole] }),
    ];
  },
});

export const linearKernels: readonly Kernel[] = [
  ...(["rms-norm", undefined] as const).map(gatedKernel),
  ...(["rms-norm", "copy", undefined] as const).flatMap((made) => [
    linearKernel(made, true),
    linearKernel(made, false),
  ]),
];
