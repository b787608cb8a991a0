import { f32, f32x4, i32, i32x4 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local, WasmModule } from "../../codegen/wasm/builder.ts";
import { f16ToF32x4 } from "../../codegen/wasm/math.ts";
import type { FormatName } from "../../quant/formats.ts";
import { share } from "./block.ts";
import {
  blockBytes,
  blockColumns,
  groupBytes,
  layouts,
  superColumns,
  type IntegerLayout,
} from "../../quant/compute-layout.ts";

const params = {
  weight: "i32",
  ids: "i32",
  y: "i32",
  firstRow: "i32",
  tableRows: "i32",
  rows: "i32",
  thread: "i32",
  threads: "i32",
  scratch: "i32",
} as const;

/** Rows of a packed table as f32, value by value as `dequantize` defines them; ids of other parts of the table are skipped. */
export function emitEmbed(
  module: WasmModule,
  name: string,
  format: FormatName,
  columns: number,
): void {
  const layout = layouts[format];
  const group = groupBytes(layout, columns);
  module.func(name, params, "void", (p, body) => {
    const { begin, end } = share(body, p.rows, p.thread, p.threads);
    body.for(begin, end, 1, (row) => {
      const id = body.local(i32.sub(i32.load(i32.add(p.ids, i32.shl(row, 2))), p.firstRow));
      const y = body.local(i32.add(p.y, i32.mul(row, 4 * columns)));
      body.if(i32.lt_u(id, p.tableRows), () => {
        const at = body.local(i32.add(p.weight, i32.mul(i32.shr_u(id, 3), group)));
        const lane = body.local(i32.and(id, 7));
        if (layout.kind === "integer") emitInteger(body, layout, columns, { at, lane, y });
        else emitFloats(body, format, columns, { at, lane, y });
      });
    });
  });
}

interface RowPlace {
  readonly at: Local<"i32">;
  readonly lane: Local<"i32">;
  readonly y: Local<"i32">;
}

const scalarF16 = (bits: Expr<"i32">): Expr<"f32"> =>
  f32x4.extract_lane(f16ToF32x4(i32x4.splat(bits)), 0);

function emitFloats(
  body: Body,
  format: FormatName,
  columns: number,
  { at, lane, y }: RowPlace,
): void {
  const size = format === "f32" ? 4 : 2;
  const from = body.local(i32.add(at, i32.mul(lane, size)));
  body.for(0, columns, 1, () => {
    const value =
      format === "f32"
        ? f32.load(from)
        : format === "f16"
          ? scalarF16(i32.load16_s(from))
          : f32.reinterpret_i32(i32.shl(i32.load16_u(from), 16));
    body.emit(f32.store(y, value));
    y.set(i32.add(y, 4));
    from.set(i32.add(from, 8 * size));
  });
}

function emitInteger(
  body: Body,
  layout: IntegerLayout,
  columns: number,
  { at, lane, y }: RowPlace,
): void {
  const { superHeader, block } = blockBytes(layout);
  const half = (base: Local<"i32">, offset: number): Expr<"f32"> =>
    scalarF16(i32.load16_s(i32.add(base, i32.shl(lane, 1)), offset));
  if (layout.scales === "block") {
    body.for(0, columns / blockColumns, 1, () => {
      const scale = body.local(half(at, 0));
      const minimum = layout.minimum ? body.local(half(at, 16)) : undefined;
      emitQuants(body, layout, { at, lane, y }, () => ({ scale, minimum }));
      at.set(i32.add(at, block));
    });
    return;
  }
  body.for(0, columns / superColumns, 1, () => {
    const d = body.local(half(at, 0));
    const dMinimum = layout.minimum ? body.local(half(at, 16)) : undefined;
    at.set(i32.add(at, superHeader));
    body.for(0, superColumns / blockColumns, 1, () => {
      const sub = (index: number): Expr<"f32"> =>
        f32.convert_i32_s(i32.load8_s(i32.add(at, lane), 8 * index));
      emitQuants(body, layout, { at, lane, y }, (part) => ({
        scale: body.local(f32.mul(d, sub(part))),
        minimum: dMinimum ? body.local(f32.mul(dMinimum, sub(layout.subs + part))) : undefined,
      }));
      at.set(i32.add(at, block));
    });
  });
}

/** The 32 values of a block; `factors` gives scale and minimum of its sub-block 0 or 1. */
function emitQuants(
  body: Body,
  layout: IntegerLayout,
  { at, lane, y }: RowPlace,
  factors: (part: number) => { scale: Local<"f32">; minimum: Local<"f32"> | undefined },
): void {
  const { header } = blockBytes(layout);
  const vector = i32.shl(i32.shr_u(lane, 2), 4);
  const from = body.local(i32.add(i32.add(at, vector), i32.shl(i32.and(lane, 3), 2)));
  const parts = layout.subs === 2 ? 2 : 1;
  const all = Array.from({ length: parts }, (_, part) => factors(part));
  for (let column = 0; column < blockColumns; column++) {
    const { scale, minimum } = all[Math.floor((column * parts) / blockColumns)];
    const quant = body.local(i32.sub(loadQuant(layout, from, header, column), layout.zero));
    const product = f32.mul(scale, f32.convert_i32_s(quant));
    body.emit(f32.store(y, minimum ? f32.add(product, minimum) : product, 4 * column));
  }
  y.set(i32.add(y, 4 * blockColumns));
}

function loadQuant(
  layout: IntegerLayout,
  from: Local<"i32">,
  header: number,
  column: number,
): Expr<"i32"> {
  if (layout.bits === 8) return i32.load8_u(from, header + 32 * (column >> 2) + (column & 3));
  const byte = i32.load8_u(from, header + 32 * (column >> 3) + (column & 3));
  return column & 4 ? i32.shr_u(byte, 4) : i32.and(byte, 15);
}
