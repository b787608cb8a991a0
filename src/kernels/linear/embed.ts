import { f32, f32x4, i32, i32x4 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local } from "../../codegen/wasm/builder.ts";
import { f16ToF32x4 } from "../../codegen/wasm/math.ts";
import { isParam, placeholder, take } from "../../ops/index.ts";
import { blockBytes, blockColumns, groupBytes, layouts } from "../../quant/compute-layout.ts";
import { quantPieces, superColumns, type IntegerLayout } from "../../quant/compute-layout.ts";
import { inputOf, markOf, rowsOf, type Kernel, type WeightPart } from "../kernel.ts";
import { bitsOf } from "../pack.ts";
import { rowAt, rowCall, stepOf } from "../program.ts";

/** Rows of a packed table by id, as f32, value by value as `dequantize` defines them; each part of the table writes its own ids. */
export const embed: Kernel = {
  meaning: take(placeholder("weight"), placeholder("ids")),
  accepts: (use, model) =>
    isParam(inputOf(use, "weight")) && model.isPacked(inputOf(use, "weight")),
  lower: (use, at) => {
    const table = inputOf(use, "weight");
    const [ids, y, rows] = [inputOf(use, "ids"), use.root, rowsOf(use.root)];
    const calls = at.weight(table).map((part) => {
      const { format, columns, firstRow, argument: weight, rows: tableRows } = part;
      const given = { weight, ids, y, firstRow, tableRows };
      const layout = layouts[format];
      const name = `embed ${format} ${columns}${markOf(part.memory)}`;
      return rowCall(at, name, { rows }, given, (body, row, p) => {
        const id = body.local(i32.sub(i32.load(i32.add(p.ids, i32.shl(row, 2))), p.firstRow));
        const y = rowAt(body, p.y, row, 4 * columns);
        body.if(i32.lt_u(id, p.tableRows), () => {
          const at = rowAt(body, p.weight, i32.shr_u(id, 3), groupBytes(layout, columns));
          const place = { ...part, at, lane: body.local(i32.and(id, 7)), y };
          if (layout.kind === "integer") emitInteger(body, layout, place);
          else emitFloats(body, place);
        });
      });
    });
    return [stepOf(`embed ${table.string("name")}`, rows, ...calls)];
  },
};

/** A row of a part: the group that it is in, its number there, and where its values go. */
type RowPlace = WeightPart & Readonly<Record<"at" | "lane" | "y", Local<"i32">>>;

const scalarF16 = (bits: Expr<"i32">): Expr<"f32"> =>
  f32x4.extract_lane(f16ToF32x4(i32x4.splat(bits)), 0);

function emitFloats(body: Body, { format, columns, memory, at, lane, y }: RowPlace): void {
  const size = format === "f32" ? 4 : 2;
  const from = rowAt(body, at, lane, size);
  const load = (): Expr<"f32"> => {
    if (format === "f32") return f32.load(from, 0, memory);
    if (format === "f16") return scalarF16(i32.load16_s(from, 0, memory));
    return f32.reinterpret_i32(i32.shl(i32.load16_u(from, 0, memory), 16));
  };
  body.for(0, columns, 1, () => {
    body.emit(f32.store(y, load()));
    y.set(i32.add(y, 4));
    from.set(i32.add(from, 8 * size));
  });
}

/** Blocks with their own scales are groups of one block, which has no header but its own. */
function emitInteger(body: Body, layout: IntegerLayout, row: RowPlace): void {
  const { columns, memory, at, lane, y } = row;
  const { superHeader, header, block } = blockBytes(layout);
  const isSuper = layout.scales === "super";
  const unit = isSuper ? superColumns : blockColumns;
  const parts = layout.subs === 2 ? 2 : 1;
  body.for(0, columns / unit, 1, () => {
    const scales = (layout.minimum ? [0, 16] : [0]).map((offset) => {
      const half = i32.load16_s(i32.add(at, i32.shl(lane, 1)), offset, memory);
      return body.local(scalarF16(half));
    });
    at.set(i32.add(at, superHeader));
    body.for(0, unit / blockColumns, 1, () => {
      const factors = Array.from({ length: parts }, (_, part) =>
        scales.map((scale, kind) => {
          if (!isSuper) return scale;
          const sub = i32.load8_s(i32.add(at, lane), 8 * (kind * layout.subs + part), memory);
          return body.local(f32.mul(scale, f32.convert_i32_s(sub)));
        }),
      );
      const vector = i32.shl(i32.shr_u(lane, 2), 4);
      const from = body.at(i32.add(at, vector), i32.shl(i32.and(lane, 3), 2));
      for (let column = 0; column < blockColumns; column++) {
        const [scale, minimum] = factors[Math.floor((column * parts) / blockColumns)];
        const pieces = quantPieces(layout.bits, column >> 2).map((piece) =>
          bitsOf(i32.load8_u(from, header + 32 * piece.byte + (column & 3), memory), piece, 1),
        );
        const quant = i32.sub(pieces.reduce(i32.or), layout.zero);
        const product = f32.mul(scale, f32.convert_i32_s(quant));
        body.emit(f32.store(y, layout.minimum ? f32.add(product, minimum) : product, 4 * column));
      }
      y.set(i32.add(y, 4 * blockColumns));
      at.set(i32.add(at, block));
    });
  });
}
