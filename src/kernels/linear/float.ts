import { f32x4, i32, i32x4, memory, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local, WasmModule } from "../../codegen/wasm/builder.ts";
import { f16ToF32x4 } from "../../codegen/wasm/math.ts";
import { share } from "./block.ts";
import { groupRows } from "../../quant/compute-layout.ts";
import { linearParams, type LinearParams } from "./matvec.ts";

/** Weights of f32, f16 or bf16, groups of 8 rows, column by column; x is f32 [rows, columns]. */
export interface FloatLinearSpec {
  readonly format: FloatFormat;
  readonly columns: number;
  readonly residual: boolean;
}
export type FloatFormat = "f32" | "f16" | "bf16";

const columnBytes = { f32: 32, f16: 16, bf16: 16 } as const satisfies Record<FloatFormat, number>;

/** The 8 weights of a column as vectors A and B. */
function loadColumn(body: Body, format: FloatFormat, at: Local<"i32">): Local<"v128">[] {
  if (format === "f32") return [0, 16].map((offset) => body.local(v128.load(at, offset)));
  const bits = body.local(v128.load(at));
  const halves = [i32x4.extend_low_i16x8_s(bits), i32x4.extend_high_i16x8_s(bits)];
  return halves.map((half) =>
    body.local(format === "f16" ? f16ToF32x4(half) : i32x4.shl(half, 16)),
  );
}

/** y = W x (+ residual), added column by column in f32, for each row of x: tiles of 8 weight rows × 4, 2 or 1 rows of x. */
export function emitFloatLinear(module: WasmModule, name: string, spec: FloatLinearSpec): void {
  const group = spec.columns * columnBytes[spec.format];
  module.func(name, linearParams, "void", (p, body) => {
    const groups = body.local(i32.div_u(i32.add(p.outputs, groupRows - 1), groupRows));
    const { begin, end } = share(body, groups, p.thread, p.threads);
    body.for(begin, end, 1, (at) => {
      const weight = body.local(i32.add(p.weight, i32.mul(at, group)));
      const row = body.local(i32.const(0));
      for (const tokens of [4, 1])
        body.while(
          () => i32.le_s(i32.add(row, tokens), p.rows),
          () => {
            emitTile(body, spec, p, { at, weight, row, tokens });
            row.set(i32.add(row, tokens));
          },
        );
    });
  });
}

interface TileAt {
  readonly at: Local<"i32">;
  readonly weight: Local<"i32">;
  readonly row: Local<"i32">;
  readonly tokens: number;
}

function emitTile(body: Body, spec: FloatLinearSpec, p: LinearParams, tile: TileAt): void {
  const { columns, format } = spec;
  const xs = Array.from({ length: tile.tokens }, (_, t) =>
    body.local(i32.add(p.x, i32.mul(i32.add(tile.row, t), columns * 4))),
  );
  const sums = xs.map(() => [0, 1].map(() => body.local(f32x4.const([0, 0, 0, 0]))));
  const weight = body.local(tile.weight);
  body.for(0, columns, 1, () => {
    const w = loadColumn(body, format, weight);
    xs.forEach((x, t) => {
      const value = body.local(v128.load32_splat(x));
      sums[t].forEach((sum, v) => sum.set(f32x4.add(sum, f32x4.mul(value, w[v]))));
      x.set(i32.add(x, 4));
    });
    weight.set(i32.add(weight, columnBytes[format]));
  });
  const left = body.local(i32.sub(p.outputs, i32.shl(tile.at, 3)));
  sums.forEach((pair, t) => {
    const offset = body.local(
      i32.add(i32.mul(i32.add(tile.row, t), p.yStride), i32.shl(tile.at, 5)),
    );
    const y = body.local(i32.add(p.y, offset));
    const residual = body.local(i32.add(p.residual, offset));
    const store = (to: Expr<"i32">, from: Expr<"i32">): void =>
      pair.forEach((sum, v) => {
        const total = spec.residual ? f32x4.add(v128.load(from, 16 * v), sum) : sum;
        body.emit(v128.store(to, total, 16 * v));
      });
    body.if(
      i32.ge_s(left, groupRows),
      () => store(y, residual),
      () => {
        const bytes = body.local(i32.shl(left, 2));
        const kept = body.local(i32.add(p.scratch, 32));
        if (spec.residual) body.emit(memory.copy(kept, residual, bytes));
        store(p.scratch, kept);
        body.emit(memory.copy(y, p.scratch, bytes));
      },
    );
  });
}
