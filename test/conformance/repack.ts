import { BlockIntegers, integerFormats } from "../../src/quant/blocks.ts";
import { blockBytes, blockColumns, groupBytes } from "../../src/quant/compute-layout.ts";
import { groupRows, layouts } from "../../src/quant/compute-layout.ts";
import { isFloat, type FormatName } from "../../src/quant/formats.ts";

/**
 * The definition of packing: repacks one group of up to 8 rows from the bytes of a file to its compute layout at `out[at …]`. `rowAt` gives the offset
 * of each row in `bytes`; missing rows stay zero. `out` must be zero there before.
 */
export function packGroup(
  format: FormatName,
  columns: number,
  bytes: Uint8Array,
  rowAt: readonly number[],
  out: Uint8Array,
  at: number,
): void {
  const layout = layouts[format];
  const from = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const to = new DataView(out.buffer, out.byteOffset + at, groupBytes(layout, columns));
  if (layout.kind === "float" || isFloat(format)) return packFloats(columns, from, rowAt, to);
  const { subs, minimum, bits } = layout;
  const place = blockBytes(layout);
  const file = integerFormats[format];
  const stride = groupBytes(layout, file.block);
  const block = new BlockIntegers();
  const { subScales, subMinimums } = block;
  const words = new Uint32Array(block.quants.buffer); // four quants a word, first lowest
  for (const [row, start] of rowAt.entries())
    for (let n = 0; n * file.block < columns; n++) {
      file.unpack(from, start + n * file.bytes, block);
      to.setUint16(n * stride + 2 * row, block.scale, true);
      if (minimum) to.setUint16(n * stride + 16 + 2 * row, block.minimum, true);
      for (let b = 0; b * blockColumns < file.block; b++) {
        const scales = n * stride + place.superHeader + b * place.block;
        for (let sub = 0; sub < subs; sub++) {
          to.setInt8(scales + 8 * sub + row, subScales[b * subs + sub]);
          if (minimum) to.setUint8(scales + 8 * (subs + sub) + row, subMinimums[b * subs + sub]);
        }
        // 4 bytes a row: vector A (rows 0–3), then B; the next columns 32 bytes on
        const lane = scales + place.header + 4 * row;
        for (let step = 0; step < bits; step++)
          to.setUint32(lane + 32 * step, stepOf(bits, words, 8 * b, step), true);
      }
    }
}

/** Word `step` of a row's quants in a block, as the layout has them; the plain ones begin at word `first`. */
function stepOf(bits: 4 | 6 | 8, words: Uint32Array, first: number, step: number): number {
  if (bits === 8) return words[first + step];
  if (bits === 4) return words[first + 2 * step] | (words[first + 2 * step + 1] << 4);
  const [k, half] = step < 3 ? [step, first] : [step - 3, first + 4];
  return words[half + k] | (((words[half + 3] >>> (2 * k)) & 0x03030303) << 6);
}

/** Column after column, the rows' values of 2 or 4 bytes. */
function packFloats(columns: number, from: DataView, rowAt: readonly number[], to: DataView): void {
  const size = to.byteLength / (groupRows * columns);
  for (let column = 0; column < columns; column++)
    for (let row = 0; row < rowAt.length; row++) {
      const [source, target] = [rowAt[row] + size * column, size * (groupRows * column + row)];
      if (size === 2) to.setUint16(target, from.getUint16(source));
      else to.setUint32(target, from.getUint32(source));
    }
}
