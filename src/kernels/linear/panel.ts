import { i32, v128, type V128 } from "../../codegen/wasm/builder.ts";
import type { Body, Local } from "../../codegen/wasm/builder.ts";
import { internal, rowAt, type Emit } from "../program.ts";
import { coefficientCount, forBlocks, loadQuants, type Coefficients } from "./block.ts";
import { late, type LinearSpec } from "./dot.ts";

/**
 * What tiles of the mat-mul multiply, most of which have so many `tokens`. A panel is, block after block, for each of its `groups` of
 * 8 rows, 16 bytes each:
 *
 *   coefficient 0 A, B … last coefficient A, B · operand of step 0 A, B … last step A, B
 *
 * A step is 4 bytes of x; `groupBytes` of a block are of one group.
 */
export type Panel = Readonly<
  Record<"groups" | "tokens" | "coefficients" | "steps" | "groupBytes" | "blockBytes", number>
>;

/** 8 sums fit the registers beside operands: 4 tokens or digits of them × 2 vectors of 4 rows, or of 8 where V8 joins them. */
export function panelOf({ layout, plan, revectorize }: LinearSpec): Panel {
  const [groups, tokens] = [revectorize ? 2 : 1, 4 / plan.planes];
  const [coefficients, steps] = [coefficientCount(layout), 8 * plan.valueBytes];
  const groupBytes = 32 * (coefficients + steps);
  return { groups, tokens, coefficients, steps, groupBytes, blockBytes: groups * groupBytes };
}

/** Where in a block a coefficient of a vector lies, of the vectors of all groups. */
const coefficientAt = ({ groupBytes }: Panel, index: number, vector: number): number =>
  (vector >> 1) * groupBytes + 32 * index + 16 * (vector & 1);
/** Where in a block the operand of a step and a vector lies. */
export const operandAt = (panel: Panel, step: number, vector: number): number =>
  coefficientAt(panel, panel.coefficients + step, vector);

const unpackParams = "weight groupBytes left panel blocks";

/** A panel of as many groups as it takes, or as are `left`. */
export const emitUnpack: Emit<LinearSpec> = internal("unpack", unpackParams, (code) => {
  const { body, p } = code;
  const shape = panelOf(code);
  body.for(0, shape.groups, 1, (group) =>
    body.if(i32.lt_s(group, p.left), () => {
      const weight = rowAt(body, p.weight, group, p.groupBytes);
      const panel = rowAt(body, p.panel, group, shape.groupBytes);
      const store = (at: number, value: V128): void => body.emit(v128.store(panel, value, at));
      forBlocks(code, p.blocks, [weight], (load) => {
        for (const [v, coefficients] of load()[0].entries())
          coefficients.forEach((value, index) => store(coefficientAt(shape, index, v), value()));
        for (let pair = 0; pair < 4; pair++)
          for (const [n, vectors] of loadQuants(code, weight, pair).entries()) {
            const step = (pair * shape.steps) / 4 + n;
            vectors.forEach((quants, v) => store(operandAt(shape, step, v), quants));
          }
        panel.set(i32.add(panel, shape.blockBytes));
      });
    }),
  );
});

/** The coefficients of each vector of the groups of a block at `panel`. */
export const panelCoefficients = (body: Body, shape: Panel, panel: Local<"i32">): Coefficients[] =>
  Array.from({ length: 2 * shape.groups }, (_, v) =>
    Array.from({ length: shape.coefficients }, (_, index) =>
      late(body, () => v128.load(panel, coefficientAt(shape, index, v))),
    ),
  );
