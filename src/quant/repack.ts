import { integerFormats, newBlock, type BlockIntegers } from "./blocks.ts";
import { formatBytes, isFloat, type FormatName } from "./formats.ts";
import {
  blockBytes,
  blockColumns,
  groupBytes,
  groupRows,
  layouts,
  superColumns,
  type FloatLayout,
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
  if (layout.kind === "float") packFloats(layout, columns, bytes, rowAt, out, at);
  else if (!isFloat(format)) {
    const stride = formatBytes(format, integerFormats[format].block);
    const block = newBlock();
    rowAt.forEach((start, row) => {
      for (let from = start, column = 0; column < columns; from += stride) {
        integerFormats[format].unpack(bytes, from, block);
        const writer = { layout, out, row, block };
        if (layout.scales === "block") packBlock(writer, at + groupBytes(layout, column));
        else packSuper(writer, at + groupBytes(layout, column));
        column += integerFormats[format].block;
      }
    });
  }
}

/** Column after column, the 8 rows' values of 2 or 4 bytes. */
function packFloats(
  { bytes: size }: FloatLayout,
  columns: number,
  bytes: Uint8Array,
  rowAt: readonly number[],
  out: Uint8Array,
  at: number,
): void {
  rowAt.forEach((start, row) => {
    for (let column = 0; column < columns; column++)
      for (let byte = 0; byte < size; byte++)
        out[at + (column * groupRows + row) * size + byte] = bytes[start + column * size + byte];
  });
}

interface Writer {
  readonly layout: IntegerLayout;
  readonly out: Uint8Array;
  readonly row: number;
  readonly block: BlockIntegers;
}

function putF16({ out, row }: Writer, at: number, bits: number): void {
  out[at + 2 * row] = bits & 255;
  out[at + 2 * row + 1] = bits >> 8;
}

function packBlock(writer: Writer, at: number): void {
  const { layout, block } = writer;
  putF16(writer, at, block.scale);
  if (layout.minimum) putF16(writer, at + 16, block.minimum);
  packQuants(writer, at + blockBytes(layout).header, 0);
}

/** A super-block of 256 columns: its minimums are subtracted, so the sign of dmin is turned. */
function packSuper(writer: Writer, at: number): void {
  const { layout, out, row, block } = writer;
  const { superHeader, header, block: size } = blockBytes(layout);
  putF16(writer, at, block.scale);
  if (layout.minimum) putF16(writer, at + 16, block.minimum ^ 0x8000);
  for (let b = 0; b < superColumns / blockColumns; b++) {
    const to = at + superHeader + b * size;
    for (let sub = 0; sub < layout.subs; sub++) {
      const from = b * layout.subs + sub;
      out[to + 8 * sub + row] = block.subScales[from];
      if (layout.minimum) out[to + 8 * (layout.subs + sub) + row] = block.subMinimums[from];
    }
    packQuants(writer, to + header, b * blockColumns);
  }
}

/** 32 quants of one row, from `first` on, into the block's quants at `at`; vector B (rows 4–7) lies 16 bytes after A. */
function packQuants({ layout, out, row, block }: Writer, at: number, first: number): void {
  const lane = at + 16 * (row >> 2) + 4 * (row & 3);
  const { quants } = block;
  if (layout.bits === 8) {
    for (let i = 0; i < blockColumns; i++) out[lane + 32 * (i >> 2) + (i & 3)] = quants[first + i];
    return;
  }
  for (let pair = 0; pair < 4; pair++)
    for (let i = 0; i < 4; i++)
      out[lane + 32 * pair + i] =
        quants[first + 8 * pair + i] | (quants[first + 8 * pair + 4 + i] << 4);
}
