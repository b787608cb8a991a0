import { f32x4, i32, i32x4, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Local, WasmModule } from "../../codegen/wasm/builder.ts";
import { f16ToF32x4 } from "../../codegen/wasm/math.ts";
import { groupBytes, groupRows, layouts } from "../../quant/compute-layout.ts";
import type { FloatFormatName } from "../../quant/formats.ts";
import { rowAt } from "../program.ts";
import { addedTo, share, storeGroup } from "./block.ts";
import { linearParams, type LinearParams } from "./matvec.ts";

/** Weights of f32, f16 or bf16, groups of 8 rows, column by column; x is f32 [rows, columns]. */
export interface FloatLinearSpec {
  readonly format: FloatFormatName;
  /** Number of the memory that the weights lie in. */
  readonly memory: number;
}

/** The 8 weights of a column as vectors A and B. */
function loadColumn(body: Body, spec: FloatLinearSpec, at: Local<"i32">): Local<"v128">[] {
  const { format, memory } = spec;
  if (format === "f32") return [0, 16].map((offset) => body.local(v128.load(at, offset, memory)));
  const bits = body.local(v128.load(at, 0, memory));
  const halves = [i32x4.extend_low_i16x8_s(bits), i32x4.extend_high_i16x8_s(bits)];
  return halves.map((half) =>
    body.local(format === "f16" ? f16ToF32x4(half) : i32x4.shl(half, 16)),
  );
}

/** y = W x (+ residual), added column by column in f32, for each row of x: tiles of 8 weight rows × 4 or 1 rows of x. */
export function emitFloatLinear(module: WasmModule, name: string, spec: FloatLinearSpec): void {
  module.func(name, linearParams, "void", (p, body) => {
    const groups = body.local(i32.div_u(i32.add(p.outputs, groupRows - 1), groupRows));
    const { begin, end } = share(body, groups, p.thread, p.threads);
    const added = addedTo(body, p.y, p.residual);
    body.for(begin, end, 1, (at) => {
      const row = body.local(i32.const(0));
      for (const tokens of [4, 1])
        body.while(
          () => i32.le_s(i32.add(row, tokens), p.rows),
          () => {
            const weight = rowAt(body, p.weight, at, p.groupBytes);
            emitTile(body, spec, p, { at, weight, row, added }, tokens);
            row.set(i32.add(row, tokens));
          },
        );
    });
  });
}

/** The tile of `tokens` rows of x from `row`, and of the group number `at` of weights. */
function emitTile(
  body: Body,
  spec: FloatLinearSpec,
  p: LinearParams,
  { at, weight, row, added }: Readonly<Record<"at" | "weight" | "row" | "added", Local<"i32">>>,
  tokens: number,
): void {
  const { format } = spec;
  const rowBytes = i32.shl(p.columns, 2);
  const xs = Array.from({ length: tokens }, (_, t) => rowAt(body, p.x, i32.add(row, t), rowBytes));
  const sums = xs.map(() => [0, 1].map(() => body.local(f32x4.const([0, 0, 0, 0]))));
  body.for(0, p.columns, 1, () => {
    const w = loadColumn(body, spec, weight);
    xs.forEach((x, t) => {
      const value = body.local(v128.load32_splat(x));
      sums[t].forEach((sum, v) => sum.set(f32x4.add(sum, f32x4.mul(value, w[v]))));
      x.set(i32.add(x, 4));
    });
    weight.set(i32.add(weight, groupBytes(layouts[format], 1)));
  });
  sums.forEach((pair, t) => {
    const start = body.local(i32.mul(i32.add(row, t), p.yStride));
    const y = body.local(i32.add(i32.add(p.y, start), i32.shl(at, 5)));
    const yEnd = i32.add(i32.add(p.y, start), i32.shl(p.outputs, 2));
    storeGroup(body, pair, y, yEnd, added);
  });
}
