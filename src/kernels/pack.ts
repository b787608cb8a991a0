import { i32, i32x4, i8x16, integers } from "../codegen/wasm/builder.ts";
import type { Expr, WasmModule } from "../codegen/wasm/builder.ts";
import type { PlannedWeight } from "../plan/plan.ts";
import { integerFormats, minimumFlip, pieceOf } from "../quant/blocks.ts";
import type { Field, IntegerFormat, Packing, Piece } from "../quant/blocks.ts";
import { blockBytes, blockColumns, groupBytes, layouts } from "../quant/compute-layout.ts";
import type { IntegerLayout } from "../quant/compute-layout.ts";
import { formats, isFloat } from "../quant/formats.ts";

type I32 = Expr<"i32">;
type Stored = Pick<PlannedWeight, "format" | "memory">;

/**
 * A program that packs one row of `blocks` blocks of a file (of floats: columns) into row `row` (0 … 7) of a group at `to`. The
 * file's bytes lie in memory 0, the group in `memory`.
 */
export function emitPacker(module: WasmModule, name: string, { format, memory }: Stored): void {
  const layout = layouts[format];
  const { bytes, block } = formats[format];
  const stride = groupBytes(layout, block);
  module.func(name, integers("from to row blocks"), "void", ({ from, to, row, blocks }, body) => {
    const pointers = [0, 1, 2].map((log) => body.at(to, i32.shl(row, log)));
    const [eights, halves, lanes] = pointers;
    const emitInteger = (layout: IntegerLayout, file: IntegerFormat): void => {
      const place = blockBytes(layout);
      body.emit(i32.store16(halves, i32.load16_u(from, file.scale ?? 0), 0, memory));
      if (file.minimum !== undefined) {
        const stored = i32.xor(i32.load16_u(from, file.minimum), minimumFlip(file.block));
        body.emit(i32.store16(halves, stored, 16, memory));
      }
      for (let b = 0; b * blockColumns < file.block; b++) {
        const at = place.superHeader + b * place.block;
        factorsOf(layout, file, from, b).forEach((factor, sub) =>
          body.emit(i32.store8(eights, factor, at + 8 * sub, memory)),
        );
        const plain = Array.from({ length: blockColumns / 4 }, (_, word) =>
          body.local(quantsAt(file, from, b * blockColumns + 4 * word)),
        );
        packWords(layout.bits, plain).forEach((word, step) =>
          body.emit(i32.store(lanes, word, at + place.header + 32 * step, memory)),
        );
      }
    };
    body.for(0, blocks, 1, () => {
      if (!isFloat(format) && layout.kind === "integer")
        emitInteger(layout, integerFormats[format]);
      else if (bytes === 4) body.emit(i32.store(lanes, i32.load(from), 0, memory));
      else body.emit(i32.store16(halves, i32.load16_u(from), 0, memory));
      from.set(i32.add(from, bytes));
      for (const pointer of pointers) pointer.set(i32.add(pointer, stride));
    });
  });
}

/** Sub-scales, then sub-minimums of the 32 columns of block `b`. */
function factorsOf(layout: IntegerLayout, { subs }: Packing, from: I32, b: number): I32[] {
  if (subs === undefined) return [];
  const first = b * layout.subs;
  const firsts = layout.minimum ? [first, first + 256 / subs.subBlock] : [first];
  const own = firsts.flatMap((first) => subs.factors.slice(first, first + layout.subs));
  return own.map((pieces) => {
    const parts = pieces.map((piece) => bitsOf(i32.load8_u(from, piece.byte), piece, 1));
    return i32.sub(parts.reduce(i32.or), subs.bias);
  });
}

/** The words of the layout from those of 4 columns, a byte each: 4 columns of 8 bits, 8 of 4, or 16 of 6 in three. */
function packWords(bits: IntegerLayout["bits"], plain: readonly I32[]): readonly I32[] {
  if (bits === 8) return plain;
  if (bits === 4)
    return [0, 2, 4, 6].map((word) => i32.or(plain[word], i32.shl(plain[word + 1], 4)));
  return [0, 4].flatMap((first) =>
    [0, 1, 2].map((k) => {
      const spread = i32.and(i32.shr_u(plain[first + 3], 2 * k), 0x03030303);
      return i32.or(plain[first + k], i32.shl(spread, 6));
    }),
  );
}

/** Quants index … index + 3 of a file's block, a byte each. */
function quantsAt({ low, high, signed, values }: Packing, from: I32, index: number): I32 {
  const parts = [fourOf(low, from, index, 0)];
  if (high) parts.push(fourOf(high, from, index, low[1]));
  const word = parts.reduce(i32.or);
  if (values)
    return i32x4.extract_lane(i8x16.swizzle(i8x16.const([...values]), i32x4.splat(word)), 0);
  return signed ? i32.xor(word, 0x80808080) : word;
}

/** Four values of a field, a byte each: side by side in a word, or as neighbouring bits. */
function fourOf(field: Field, from: I32, index: number, up: number): I32 {
  const piece = pieceOf(field, index, up);
  if (field[2] > 1) return bitsOf(i32.load(from, piece.byte), piece, 0x01010101);
  const four = i32.and(i32.shr_u(i32.load8_u(from, piece.byte), piece.shift), 15);
  // bit n goes to bit 8n: n + 7n
  return i32.shl(i32.and(i32.mul(four, 0x204081), 0x01010101), up);
}

/** A piece of each byte of `loaded` that `lanes` has a 1 for. */
export function bitsOf(loaded: I32, { shift, bits, up }: Piece, lanes: number): I32 {
  const shifted = shift === 0 ? loaded : i32.shr_u(loaded, shift);
  const cut = bits === 8 ? shifted : i32.and(shifted, ((1 << bits) - 1) * lanes);
  return up === 0 ? cut : i32.shl(cut, up);
}
