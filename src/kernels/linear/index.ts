import { sameShape } from "../../ir/dim.ts";
import { add, linear, placeholder } from "../../ops/index.ts";
import type { Call } from "../../plan/plan.ts";
import { columnsOf, inputOf, rowsOf, type Kernel } from "../kernel.ts";
import { linearCall, type LinearInput } from "./calls.ts";
import type { RowsKind } from "./dot.ts";
import { gatedKernel } from "./gated.ts";
import { acceptsReading, readingMeaning, readingOf, stepFor, type Made } from "./reading.ts";

/** y = x Wᵀ (+ residual): of rounded rows for integer weights, of f32 for others. */
function linearKernel(made: Made, hasResidual: boolean): Kernel {
  const plain = linear(readingMeaning(made), placeholder("weight"));
  return {
    name: `${made ? `${made}+round+` : ""}linear${hasResidual ? "+residual" : ""}`,
    meaning: hasResidual ? add(placeholder("residual"), plain) : plain,
    accepts: (use, model) => {
      const { root, inputs } = use;
      const added = inputs.get("residual") ?? root;
      return sameShape(added.shape, root.shape) && acceptsReading(use, model, made);
    },
    lower: (use, at) => {
      const { root, inputs } = use;
      const weight = inputOf(use, "weight");
      const { few, many, prologue, before } = readingOf(use, at, made);
      const added = inputs.get("residual");
      const output = {
        y: at.address(root),
        residual: added && at.address(added),
        columns: columnsOf(root),
        rows: rowsOf(root),
      };
      const calls = (kind: RowsKind, input: LinearInput): Call[] =>
        at.weight(weight).map((part) => linearCall(at, kind, part, input, output));
      return [
        ...before,
        stepFor(`linear ${weight.string("name")}`, use, {
          few: [...prologue, ...calls("few", few)],
          many: calls("many", many),
        }),
      ];
    },
  };
}

export const linearKernels: readonly Kernel[] = [
  ...(["rms-norm", undefined] as const).map(gatedKernel),
  ...(["rms-norm", "copy", undefined] as const).flatMap((made) => [
    linearKernel(made, true),
    linearKernel(made, false),
  ]),
];
