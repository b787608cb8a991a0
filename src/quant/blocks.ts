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
export interface BlockIntegers {
  readonly quants: Uint8Array;
  /** The same quants, four a word. */
  readonly words: Uint32Array;
  readonly subScales: Int8Array;
  readonly subMinimums: Uint8Array;
  /** f16 bits; −0, which changes no sum, where the format has no minimum. */
  scale: number;
  minimum: number;
}

export function newBlock(): BlockIntegers {
  const [quants, subScales] = [new Uint8Array(256), new Int8Array(16).fill(1)];
  const [words, subMinimums] = [new Uint32Array(quants.buffer), new Uint8Array(16).fill(1)];
  return { quants, words, subScales, subMinimums, scale: 0, minimum: 0x8000 };
}

export interface IntegerFormat {
  readonly ggmlType: number;
  /** Weights and bytes of a block. */
  readonly block: 32 | 256;
  readonly bytes: number;
  readonly zero: number;
  /** Largest quant. */
  readonly range: number;
  /** Weights that share a sub-scale; the block itself where there are none. */
  readonly subBlock: 16 | 32;
  readonly minimum: boolean;
  unpack(bytes: DataView, at: number, into: BlockIntegers): void;
}

/**
 * Values of a few bits from byte `first` on: the lowest bits of `run` bytes are as many values, the bits above them the next
 * ones; after the highest, the next `run` bytes. Nibbles with run 2: bytes 10 32 → 0 2 1 3.
 */
interface Field {
  readonly first: number;
  readonly bits: 1 | 2 | 4 | 8;
  readonly run: number;
}
const bits = (first: number, width: Field["bits"], run: number): Field => ({
  first,
  bits: width,
  run,
});

/** Flips the bits from `up` on of the first `count` quants; four at a time, as runs are whole words but for single bits. */
function unpackField(
  { quants, words }: BlockIntegers,
  count: number,
  bytes: DataView,
  at: number,
  { first, bits: width, run }: Field,
  up: number,
): void {
  const start = at + first;
  if (run === 1) {
    for (let i = 0; i < count; i++)
      quants[i] ^= ((bytes.getUint8(start + (i >> 3)) >> (i & 7)) & 1) << up;
    return;
  }
  const mask = ((1 << width) - 1) * 0x01010101;
  for (let word = 0, from = start; 4 * word < count; from += run)
    for (let shift = 0; shift < 8; shift += width)
      for (let byte = from; byte < from + run; byte += 4)
        words[word++] ^= ((bytes.getUint32(byte, true) >>> shift) & mask) << up;
}

/** Value `index` of a field. */
function fieldAt(
  bytes: DataView,
  at: number,
  { first, bits: width, run }: Field,
  index: number,
): number {
  const runs = (index / run) | 0;
  const byte = first + ((((runs * width) >> 3) - runs) * run + index);
  return (bytes.getUint8(at + byte) >> ((runs * width) & 7)) & ((1 << width) - 1);
}

/** Factor `index` of a block: its sub-scales, then its sub-minimums. */
type Factor = (bytes: DataView, at: number, index: number) => number;

/** 4 low and 2 high bits, less 32. */
const biased =
  (low: Field, high: Field): Factor =>
  (bytes, at, index) =>
    (fieldAt(bytes, at, low, index) | (fieldAt(bytes, at, high, index) << 4)) - 32;

/** 8 scales and 8 minimums of 6 bits in 12 bytes from byte 4 on: the first 4 of each whole, the others cut in two. */
const sixBits: Factor = (bytes, at, index) => {
  const half = (index & 8) >> 1;
  const whole = bytes.getUint8(at + 4 + half + (index & 3));
  if ((index & 4) === 0) return whole & 63;
  return ((bytes.getUint8(at + 12 + (index & 3)) >> half) & 15) | ((whole >> 6) << 4);
};

interface Packing {
  /** Where the f16 scale is, and the minimum; blocks of 256 store it negated. */
  readonly halves: readonly [scale: number, minimum?: number];
  /** Low bits first. */
  readonly quants: readonly Field[];
  /** Two's complement: the highest bit is flipped to make quants unsigned. */
  readonly signed?: true;
  /** What quants index. */
  readonly values?: Uint8Array;
  readonly subBlock?: 16 | 32;
  readonly factor?: Factor;
}

function integer(
  ggmlType: number,
  block: 32 | 256,
  bytesOfBlock: number,
  { halves: [scaleAt, minimumAt], quants: fields, signed, values, subBlock = 32, factor }: Packing,
): IntegerFormat {
  const minimum = minimumAt !== undefined;
  const width = fields.reduce((sum, field) => sum + field.bits, 0);
  const range = values ? 255 : 2 ** width - 1;
  const sign = block === 256 ? 0x8000 : 0;
  const subs = block / subBlock;
  function unpack(bytes: DataView, at: number, into: BlockIntegers): void {
    into.scale = bytes.getUint16(at + scaleAt, true);
    if (minimum) into.minimum = bytes.getUint16(at + minimumAt, true) ^ sign;
    if (factor)
      for (let sub = 0; sub < subs; sub++) {
        into.subScales[sub] = factor(bytes, at, sub);
        if (minimum) into.subMinimums[sub] = factor(bytes, at, subs + sub);
      }
    into.words.fill(signed ? 0x80808080 : 0, 0, block / 4);
    let up = 0;
    for (const field of fields) {
      unpackField(into, block, bytes, at, field, up);
      up += field.bits;
    }
    if (values) for (let i = 0; i < block; i++) into.quants[i] = values[into.quants[i]];
  }
  const zero = minimum ? 0 : (range + 1) / 2;
  return { ggmlType, block, bytes: bytesOfBlock, zero, range, subBlock, minimum, unpack };
}

/** The 16 values that IQ4 quants index, + 128. */
const iq4 = Uint8Array.from(
  [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113],
  (value) => value + 128,
);

/** By name: number in GGUF, weights and bytes of a block, and how they are packed. */
export const integerFormats: Readonly<Record<IntegerFormatName, IntegerFormat>> = {
  q4_0: integer(2, 32, 18, { halves: [0], quants: [bits(2, 4, 16)] }),
  q4_1: integer(3, 32, 20, { halves: [0, 2], quants: [bits(4, 4, 16)] }),
  q5_0: integer(6, 32, 22, { halves: [0], quants: [bits(6, 4, 16), bits(2, 1, 1)] }),
  q5_1: integer(7, 32, 24, { halves: [0, 2], quants: [bits(8, 4, 16), bits(4, 1, 1)] }),
  q8_0: integer(8, 32, 34, { halves: [0], quants: [bits(2, 8, 32)], signed: true }),
  q2_k: integer(10, 256, 84, {
    halves: [80, 82],
    quants: [bits(16, 2, 32)],
    subBlock: 16,
    factor: (bytes, at, index) => fieldAt(bytes, at, bits(0, 4, 16), index),
  }),
  q3_k: integer(11, 256, 110, {
    halves: [108],
    quants: [bits(32, 2, 32), bits(0, 1, 32)],
    subBlock: 16,
    factor: biased(bits(96, 4, 8), bits(104, 2, 4)),
  }),
  q4_k: integer(12, 256, 144, { halves: [0, 2], quants: [bits(16, 4, 32)], factor: sixBits }),
  q5_k: integer(13, 256, 176, {
    halves: [0, 2],
    quants: [bits(48, 4, 32), bits(16, 1, 32)],
    factor: sixBits,
  }),
  q6_k: integer(14, 256, 210, {
    halves: [208],
    quants: [bits(0, 4, 64), bits(128, 2, 32)],
    subBlock: 16,
    factor: (bytes, at, index) => bytes.getInt8(at + 192 + index),
  }),
  iq4_nl: integer(20, 32, 18, { halves: [0], quants: [bits(2, 4, 16)], values: iq4 }),
  iq4_xs: integer(23, 256, 136, {
    halves: [0],
    quants: [bits(8, 4, 16)],
    values: iq4,
    factor: biased(bits(4, 4, 1), bits(2, 2, 1)),
  }),
};
