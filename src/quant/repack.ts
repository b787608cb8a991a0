import { integerFormats, newBlock, type IntegerFormat } from "./blocks.ts";
import { isFloat, type FormatName } from "./formats.ts";
import {
  blockBytes,
  blockColumns,
  groupBytes,
  groupRows,
  layouts,
  type IntegerLayout,
} from "./compute-layout.ts";

/**
 * Repacks one group of up to 8 rows from the bytes of a file to its compute layout at `out[at …]`. `rowAt` gives the offset
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
  if (layout.kind === "float") packFloats(layout.bytes, columns, from, rowAt, to);
  else if (!isFloat(format)) packIntegers(layout, integerFormats[format], columns, from, rowAt, to);
}

/** Column after column, the 8 rows' values. */
function packFloats(
  bytes: 2 | 4,
  columns: number,
  from: DataView,
  rowAt: readonly number[],
  to: DataView,
): void {
  for (let column = 0; column < columns; column++)
    for (let row = 0; row < rowAt.length; row++) {
      const [source, target] = [rowAt[row] + bytes * column, bytes * (groupRows * column + row)];
      if (bytes === 2) to.setUint16(target, from.getUint16(source));
      else to.setUint32(target, from.getUint32(source));
    }
}

function packIntegers(
  layout: IntegerLayout,
  file: IntegerFormat,
  columns: number,
  from: DataView,
  rowAt: readonly number[],
  to: DataView,
): void {
  const { subs, minimum, bits } = layout;
  const { superHeader, header, block: blockStride } = blockBytes(layout);
  const stride = groupBytes(layout, file.block);
  const block = newBlock();
  for (const [row, start] of rowAt.entries())
    for (let n = 0; n * file.block < columns; n++) {
      file.unpack(from, start + n * file.bytes, block);
      const { subScales, subMinimums, words } = block;
      to.setUint16(n * stride + 2 * row, block.scale, true);
      if (minimum) to.setUint16(n * stride + 16 + 2 * row, block.minimum, true);
      for (let b = 0; b * blockColumns < file.block; b++) {
        const place = n * stride + superHeader + b * blockStride;
        for (let sub = 0; sub < subs; sub++) {
          to.setInt8(place + 8 * sub + row, subScales[b * subs + sub]);
          if (minimum) to.setUint8(place + 8 * (subs + sub) + row, subMinimums[b * subs + sub]);
        }
        packQuants(bits, words, 8 * b, to, place + header + 4 * row);
      }
    }
}

/**
 * 32 quants of one row, from word `first` on. A row's lane of vector A is at 4 × row; vector B (rows 4–7) follows A, so that the
 * same holds there. The next columns are 32 bytes on.
 */
function packQuants(
  bits: 4 | 8,
  words: Uint32Array,
  first: number,
  to: DataView,
  at: number,
): void {
  for (let step = 0; step < bits; step++) {
    const value =
      bits === 8
        ? words[first + step]
        : words[first + 2 * step] | (words[first + 2 * step + 1] << 4);
    to.setUint32(at + 32 * step, value, true);
  }
}
