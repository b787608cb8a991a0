/**
 * The integer formats of GGUF (ggml-quants.c of llama.cpp): what the bytes of a block mean. Every format is
 *
 *   weight = scale × subScale × (quant − zero) + minimum × subMinimum
 *
 * with f16 scale and minimum for the block, integer factors for each `subBlock` weights, and unsigned quants.
 */
export type IntegerFormatName =
  | `q${"4_0" | "4_1" | "5_0" | "5_1" | "8_0"}`
  | `q${2 | 3 | 4 | 5 | 6}_k`
  | `iq4_${"nl" | "xs"}`;

/** The integers of one block of up to 256 weights. Factors of formats without sub-blocks are 1. */
export class BlockIntegers {
  readonly quants: Uint8Array = new Uint8Array(256);
  readonly subScales: Int8Array = new Int8Array(16).fill(1);
  readonly subMinimums: Uint8Array = new Uint8Array(16).fill(1);
  /** f16 bits; −0, which changes no sum, where the format has no minimum. */
  scale = 0;
  minimum = 0x8000;
}

/** A weight format of GGUF: its number there, and how many weights share how many bytes. */
export type Format = Readonly<Record<"ggmlType" | "block" | "bytes", number>>;

export interface IntegerFormat extends Format, Packing {
  readonly block: 32 | 256;
  readonly zero: number;
  /** Largest quant. */
  readonly range: number;
  /** Weights that share a sub-scale; the block itself where there are none. */
  readonly subBlock: 16 | 32;
  unpack(bytes: DataView, at: number, into: BlockIntegers): void;
}

/**
 * Values of a few bits from byte `first` on: the lowest bits of `run` bytes are as many values, the bits above them the next
 * ones; after the highest, the next `run` bytes. Nibbles with run 2: bytes 10 32 → 0 2 1 3.
 */
export type Field = readonly [first: number, bits: 1 | 2 | 4 | 8, run: number];

/** Where some bits of a value lie. */
export type Piece = Readonly<Record<"byte" | "shift" | "bits" | "up", number>>;
const bitsOf = (bytes: DataView, at: number, { byte, shift, bits, up }: Piece): number =>
  ((bytes.getUint8(at + byte) >> shift) & ((1 << bits) - 1)) << up;

/** Value `index` of a field. */
export function pieceOf([first, bits, run]: Field, index: number, up = 0): Piece {
  const runs = Math.floor(index / run);
  const byte = first + Math.floor((runs * bits) / 8) * run + (index % run);
  return { byte, shift: (runs * bits) % 8, bits, up };
}

/** Factors of each `subBlock` weights: first all sub-scales, then all sub-minimums; each is the sum of its pieces − bias. */
interface Subs {
  readonly subBlock: 16 | 32;
  readonly factors: readonly (readonly Piece[])[];
  readonly bias: number;
}

function subsOf(subBlock: 16 | 32, count: number, piecesOf: (at: number) => Piece[], bias = 0) {
  return { subBlock, factors: Array.from({ length: count }, (_, at) => piecesOf(at)), bias };
}

const q2Subs = subsOf(16, 32, (at) => [pieceOf([0, 4, 16], at)]);
const q3Subs = subsOf(16, 16, (at) => [pieceOf([96, 4, 8], at), pieceOf([104, 2, 4], at, 4)], 32);
const q6Subs = subsOf(16, 16, (at) => [pieceOf([192, 8, 16], at)]);
const iq4Subs = subsOf(32, 8, (at) => [pieceOf([4, 4, 1], at), pieceOf([2, 2, 1], at, 4)], 32);

/** 8 scales and 8 minimums of 6 bits in 12 bytes from byte 4 on: the first 4 of each whole, the others cut in two. */
const q4Subs = subsOf(32, 16, (index) => {
  const [isMinimum, isCut] = [index >> 3, (index >> 2) & 1];
  const nth = 4 * isMinimum + (index & 3);
  if (isCut === 0) return [{ byte: 4 + nth, shift: 0, bits: 6, up: 0 }];
  return [pieceOf([12, 4, 4], nth), { byte: 4 + nth, shift: 6, bits: 2, up: 4 }];
});

/** Blocks of 256 store their minimum negated. */
export const minimumFlip = (block: 32 | 256): number => (block === 256 ? 0x8000 : 0);

/** How the bytes of a block hold its integers. */
export interface Packing {
  /** Where the f16 scale is, 0 unless given, and the minimum, whose sign `minimumFlip` sets right. */
  readonly scale?: number;
  readonly minimum?: number;
  /** Bits of the quants. */
  readonly low: Field;
  readonly high?: Field;
  /** Two's complement: the highest bit is flipped to make quants unsigned. */
  readonly signed?: true;
  /** What quants index. */
  readonly values?: Uint8Array;
  readonly subs?: Subs;
}

function integer(ggmlType: number, block: 32 | 256, bytes: number, packing: Packing) {
  const { scale = 0, minimum, low, high, signed, values, subs } = packing;
  const range = values ? 255 : 2 ** (low[1] + (high?.[1] ?? 0)) - 1;
  const subBlock = subs?.subBlock ?? 32;
  const count = block / subBlock;
  function unpack(view: DataView, at: number, into: BlockIntegers): void {
    into.scale = view.getUint16(at + scale, true);
    if (minimum !== undefined)
      into.minimum = view.getUint16(at + minimum, true) ^ minimumFlip(block);
    subs?.factors.forEach((pieces, sub) => {
      const factor = pieces.reduce((sum, piece) => sum | bitsOf(view, at, piece), 0);
      if (sub < count) into.subScales[sub] = factor - subs.bias;
      else into.subMinimums[sub - count] = factor;
    });
    for (let i = 0; i < block; i++) {
      let quant = bitsOf(view, at, pieceOf(low, i));
      if (high) quant |= bitsOf(view, at, pieceOf(high, i, low[1]));
      if (signed) quant ^= 0x80;
      into.quants[i] = values ? values[quant] : quant;
    }
  }
  const zero = minimum === undefined ? (range + 1) / 2 : 0;
  return { ggmlType, block, bytes, ...packing, zero, range, subBlock, unpack };
}

/** The 16 values that IQ4 quants index, + 128. */
const iq4 = Uint8Array.from(
  [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113],
  (value) => value + 128,
);

/** By name: number in GGUF, weights and bytes of a block, and how they are packed. */
export const integerFormats: Readonly<Record<IntegerFormatName, IntegerFormat>> = {
  q4_0: integer(2, 32, 18, { low: [2, 4, 16] }),
  q4_1: integer(3, 32, 20, { minimum: 2, low: [4, 4, 16] }),
  q5_0: integer(6, 32, 22, { low: [6, 4, 16], high: [2, 1, 1] }),
  q5_1: integer(7, 32, 24, { minimum: 2, low: [8, 4, 16], high: [4, 1, 1] }),
  q8_0: integer(8, 32, 34, { low: [2, 8, 32], signed: true }),
  q2_k: integer(10, 256, 84, { scale: 80, minimum: 82, low: [16, 2, 32], subs: q2Subs }),
  q3_k: integer(11, 256, 110, { scale: 108, low: [32, 2, 32], high: [0, 1, 32], subs: q3Subs }),
  q4_k: integer(12, 256, 144, { minimum: 2, low: [16, 4, 32], subs: q4Subs }),
  q5_k: integer(13, 256, 176, { minimum: 2, low: [48, 4, 32], high: [16, 1, 32], subs: q4Subs }),
  q6_k: integer(14, 256, 210, { scale: 208, low: [0, 4, 64], high: [128, 2, 32], subs: q6Subs }),
  iq4_nl: integer(20, 32, 18, { low: [2, 4, 16], values: iq4 }),
  iq4_xs: integer(23, 256, 136, { low: [8, 4, 16], values: iq4, subs: iq4Subs }),
};
