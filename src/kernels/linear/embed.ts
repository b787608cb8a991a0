import { f32, f32x4, i32, i32x4, type Body, type Expr } from "../../codegen/wasm/builder.ts";
import type { Local } from "../../codegen/wasm/builder.ts";
import { f16ToF32x4 } from "../../codegen/wasm/math.ts";
import { isParam, placeholder, take } from "../../ops/index.ts";
import { blockBytes, blockColumns, groupBytes, layouts } from "../../quant/compute-layout.ts";
import { superColumns, type IntegerLayout } from "../../quant/compute-layout.ts";
import type { FormatName } from "../../quant/formats.ts";
import { inputOf, markOf, rowsOf, type Kernel } from "../kernel.ts";
import { rowAt, rowCall, stepOf } from "../program.ts";

/** Rows of a packed table by id, as f32, value by value as `dequantize` defines them; each part of the table writes its own ids. */
export const embed: Kernel = {
  name: "embed",
  meaning: take(placeholder("weight"), placeholder("ids")),
  accepts: (use, model) =>
    isParam(inputOf(use, "weight")) && model.isPacked(inputOf(use, "weight")),
  lower: (use, at) => {
    const table = inputOf(use, "weight");
    const [ids, y, rows] = [inputOf(use, "ids"), use.root, rowsOf(use.root)];
    const calls = at
      .weight(table)
      .map(({ format, columns, argument, firstRow, memory, ...part }) => {
        const given = { weight: argument, ids, y, firstRow, tableRows: part.rows };
        const layout = layouts[format];
        return rowCall(
          at,
          `embed ${format} ${columns}${markOf(memory)}`,
          { rows },
          given,
          (body, row, p) => {
            const id = body.local(i32.sub(i32.load(i32.add(p.ids, i32.shl(row, 2))), p.firstRow));
            const y = rowAt(body, p.y, row, 4 * columns);
            body.if(i32.lt_u(id, p.tableRows), () => {
              const at = rowAt(body, p.weight, i32.shr_u(id, 3), groupBytes(layout, columns));
              const lane = body.local(i32.and(id, 7));
              const place = { at, lane, y, memory };
              if (layout.kind === "integer") emitInteger(body, layout, columns, place);
              else emitFloats(body, format, columns, place);
            });
          },
        );
      });
    return [stepOf(`embed ${table.string("name")}`, rows, ...calls)];
  },
};

interface RowPlace {
  readonly at: Local<"i32">;
  readonly lane: Local<"i32">;
  readonly y: Local<"i32">;
  /** That of the table. */
  readonly memory: number;
}

const scalarF16 = (bits: Expr<"i32">): Expr<"f32"> =>
  f32x4.extract_lane(f16ToF32x4(i32x4.splat(bits)), 0);

function emitFloats(body: Body, format: FormatName, columns: number, row: RowPlace): void {
  const { at, lane, y, memory } = row;
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
function emitInteger(body: Body, layout: IntegerLayout, columns: number, row: RowPlace): void {
  const { at, lane, y, memory } = row;
  const { superHeader, header, block } = blockBytes(layout);
  const isSuper = layout.scales === "super";
  const half = (offset: number): Local<"f32"> =>
    body.local(scalarF16(i32.load16_s(i32.add(at, i32.shl(lane, 1)), offset, memory)));
  const unit = isSuper ? superColumns : blockColumns;
  const parts = layout.subs === 2 ? 2 : 1;
  body.for(0, columns / unit, 1, () => {
    const scale = half(0);
    const minimum = layout.minimum ? half(16) : undefined;
    at.set(i32.add(at, superHeader));
    body.for(0, unit / blockColumns, 1, () => {
      const timesSub = (factor: Local<"f32">, sub: number): Local<"f32"> => {
        if (!isSuper) return factor;
        const value = i32.load8_s(i32.add(at, lane), 8 * sub, memory);
        return body.local(f32.mul(factor, f32.convert_i32_s(value)));
      };
      const factors = Array.from({ length: parts }, (_, part) => ({
        scale: timesSub(scale, part),
        minimum: minimum && timesSub(minimum, layout.subs + part),
      }));
      const vector = i32.shl(i32.shr_u(lane, 2), 4);
      const from = body.local(i32.add(i32.add(at, vector), i32.shl(i32.and(lane, 3), 2)));
      for (let column = 0; column < blockColumns; column++) {
        const { scale, minimum } = factors[Math.floor((column * parts) / blockColumns)];
        const quant = i32.sub(loadQuant(layout, { from, memory }, header, column), layout.zero);
        const product = f32.mul(scale, f32.convert_i32_s(quant));
        body.emit(f32.store(y, minimum ? f32.add(product, minimum) : product, 4 * column));
      }
      y.set(i32.add(y, 4 * blockColumns));
      at.set(i32.add(at, block));
    });
  });
}

/** The quant of a column of the row whose quants of column 0 are at `from` + `header`. */
function loadQuant(
  { bits }: IntegerLayout,
  { from, memory }: { readonly from: Local<"i32">; readonly memory: number },
  header: number,
  column: number,
): Expr<"i32"> {
  const step = column >> 2;
  const load = (part: number): Expr<"i32"> =>
    i32.load8_u(from, header + 32 * part + (column & 3), memory);
  const nibble = load(step >> 1);
  const [half, k] = [3 * (step >> 2), step & 3];
  switch (bits) {
    case 4:
      return step % 2 ? i32.shr_u(nibble, 4) : i32.and(nibble, 15);
    case 6:
      if (k < 3) return i32.and(load(half + k), 63);
      return [0, 1, 2]
        .map((part) => i32.shl(i32.shr_u(load(half + part), 6), 2 * part))
        .reduce((a, b) => i32.or(a, b));
    case 8:
      return load(step);
    default:
      return bits satisfies never;
  }
}
