import { integerFormats, pieceOf, type IntegerFormat, type Piece } from "./blocks.ts";
import { formatNames, isFloat, type FormatName } from "./formats.ts";

/**
 * Compute layouts: how weights lie in memory. Rows go in groups of 8, so that one i32 or f32 lane is one row: lanes 0–3 are
 * rows 0–3 (vector A), then rows 4–7 (vector B). The last group is filled up with zero rows.
 */
export const groupRows = 8;
export const blockColumns = 32;
export const superColumns = 256;

/**
 * Integers with scales, in blocks of 32 columns. Weight = scale × (q − zero) + minimum. A group of a block is
 *
 *   scales   `block`: 8 f16 scale [, 8 f16 minimum]          once a block
 *            `super`: 8 f16 d [, 8 f16 −dmin]                 once in 8 blocks; then, a block, `subs` × 8 i8 sub-scales
 *                     [, subs × 8 u8 sub-minimums]; scale = d × sub-scale of each 32 (subs 1) or 16 (subs 2) columns
 *   quants   8 bits: for columns 4s … 4s+3 (s = 0 … 7), A then B: 16 bytes, 4 columns a row.
 *            4 bits: for columns 8s … 8s+7 (s = 0 … 3), A then B: 16 bytes, 4 a row; byte j of a row holds column 8s + j
 *            low and 8s + 4 + j high. 6 bits: for columns 16s … 16s+15 (s = 0, 1) three times A then B: 16 bytes, 4 a row; byte j
 *            of a row of the k-th holds column 16s + 4k + j low, and above it bits 2k and 2k + 1 of column 16s + 12 + j.
 *
 * Quants are unsigned. `range` is the largest: up to 127 they fit the second operand of the relaxed dot on every engine.
 */
export interface IntegerLayout extends Pick<IntegerFormat, "zero" | "range"> {
  readonly kind: "integer";
  readonly bits: 4 | 6 | 8;
  readonly scales: "block" | "super";
  readonly subs: 0 | 1 | 2;
  readonly minimum: boolean;
}
/** Floats: for each column, the 8 rows one after the other. */
export type Layout = IntegerLayout | { readonly kind: "float"; readonly bytes: 2 | 4 };

function layoutOf(name: FormatName): Layout {
  if (isFloat(name)) return { kind: "float", bytes: name === "f32" ? 4 : 2 };
  const { block, zero, range, subBlock, minimum } = integerFormats[name];
  const bits = range <= 15 ? 4 : range <= 63 ? 6 : 8;
  const scales = block === superColumns ? "super" : "block";
  const subs = block === blockColumns ? 0 : subBlock === 16 ? 2 : 1;
  return { kind: "integer", bits, zero, range, scales, subs, minimum: minimum !== undefined };
}

/** The layout that each file format is repacked to. Nothing is widened to f32. */
export const layouts = Object.fromEntries(
  formatNames.map((name) => [name, layoutOf(name)] as const),
) as Readonly<Record<FormatName, Layout>>;

type BlockBytes = Record<"superHeader" | "header" | "block", number>;
/**
 * Bytes of a group: of what comes once in 8 blocks (0 for `block` scales), of scales and minimums in front of the quants of each
 * block, and of a block.
 */
export function blockBytes(layout: IntegerLayout): BlockBytes {
  const halves = layout.minimum ? 2 : 1;
  const superHeader = layout.scales === "super" ? 16 * halves : 0;
  const scales = layout.scales === "super" ? 8 * layout.subs : 16;
  const header = 16 * Math.ceil((scales * halves) / 16);
  return { superHeader, header, block: header + (groupRows * blockColumns * layout.bits) / 8 };
}

/** Where the quants of columns 4·quad … 4·quad + 3 of a block lie: in which words of a row (as `byte`), and where in each byte. */
export function quantPieces(bits: IntegerLayout["bits"], quad: number): Piece[] {
  if (bits !== 6) return [pieceOf([0, bits, 1], quad)];
  const [first, k] = [3 * (quad >> 2), quad & 3];
  if (k < 3) return [{ byte: first + k, shift: 0, bits, up: 0 }];
  return [0, 1, 2].map((word) => ({ byte: first + word, shift: 6, bits: 2, up: 2 * word }));
}

/** Bytes of one group of 8 rows. */
export function groupBytes(layout: Layout, columns: number): number {
  if (layout.kind === "float") return groupRows * columns * layout.bytes;
  const { superHeader, block } = blockBytes(layout);
  return (columns / blockColumns) * block + (columns / superColumns) * superHeader;
}

/** Bytes of a whole matrix [rows, columns], whose rows are whole blocks. */
export const matrixBytes = (format: FormatName, rows: number, columns: number): number =>
  Math.ceil(rows / groupRows) * groupBytes(layouts[format], columns);
