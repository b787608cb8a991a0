import { f32x4, i32, i32x4, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Local } from "../../codegen/wasm/builder.ts";
import { f16ToF32x4 } from "../../codegen/wasm/math.ts";
import { groupBytes, groupRows, layouts } from "../../quant/compute-layout.ts";
import type { WeightPart } from "../kernel.ts";
import { rowAt, share, type Func } from "../program.ts";
import { addedTo, storeGroup, widened, type LinearParam } from "./block.ts";

/** Weights of f32, f16 or bf16, groups of 8 rows, column by column; x is f32 [rows, columns]. */
type FloatPart = Pick<WeightPart, "format" | "memory">;

/** y = W x (+ residual), added column by column in f32, for each row of x: tiles of 8 weight rows × 4 or 1 rows of x. */
export function emitFloatLinear({ body, p }: Func<LinearParam>, part: FloatPart): void {
  const groups = body.local(i32.div_u(i32.add(p.outputs, groupRows - 1), groupRows));
  const { begin, end } = share(body, groups, p.thread, p.threads);
  const added = addedTo(body, p.y, p.residual);
  const rowBytes = i32.shl(p.columns, 2);
  /** Rows `row` … of x by group number `at` of weights. */
  const emitTile = (at: Local<"i32">, row: Local<"i32">, tokens: number): void => {
    const weight = rowAt(body, p.weight, at, p.groupBytes);
    const rows = Array.from({ length: tokens }, (_, t) => i32.add(row, t));
    const xs = rows.map((row) => rowAt(body, p.x, row, rowBytes));
    const sums = xs.map(() => [0, 1].map(() => body.local(f32x4.const(0))));
    body.for(0, p.columns, 1, () => {
      const w = loadColumn(body, part, weight);
      xs.forEach((x, t) => {
        const value = body.local(v128.load32_splat(x));
        sums[t].forEach((sum, v) => sum.set(f32x4.add(sum, f32x4.mul(value, w[v]))));
        x.set(i32.add(x, 4));
      });
      weight.set(i32.add(weight, groupBytes(layouts[part.format], 1)));
    });
    sums.forEach((pair, t) => {
      const start = body.local(i32.mul(rows[t], p.yStride));
      const y = body.at(i32.add(p.y, start), i32.shl(at, 5));
      const yEnd = i32.add(i32.add(p.y, start), i32.shl(p.outputs, 2));
      storeGroup(body, pair, { y, yEnd, added });
    });
  };
  body.for(begin, end, 1, (at) => {
    const row = body.local(i32.const(0));
    for (const tokens of [4, 1])
      body.while(i32.le_s(i32.add(row, tokens), p.rows), () => {
        emitTile(at, row, tokens);
        row.set(i32.add(row, tokens));
      });
  });
}

/** The 8 weights of a column as vectors A and B. */
function loadColumn(body: Body, { format, memory }: FloatPart, at: Local<"i32">): Local<"v128">[] {
  if (format === "f32") return [0, 16].map((offset) => body.local(v128.load(at, offset, memory)));
  const bits = body.local(v128.load(at, 0, memory));
  return widened(bits).map((half) =>
    body.local(format === "f16" ? f16ToF32x4(half) : i32x4.shl(half, 16)),
  );
}
