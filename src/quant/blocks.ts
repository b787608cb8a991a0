/**
 * The integer formats of GGUF (ggml-quants.c of llama.cpp): what the bytes of a block mean. Every format is
 *
 *   weight = scale × subScale × (quant − zero) [+ minimum, or − minimum × subMinimum]
 *
 * with f16 scale and minimum for the block, integer factors for each `subBlock` weights, and unsigned quants.
 */
export type IntegerFormatName =
  | "q4_0"
  | "q4_1"
  | "q5_0"
  | "q5_1"
  | "q8_0"
  | "q2_k"
  | "q3_k"
  | "q4_k"
  | "q5_k"
  | "q6_k"
  | "iq4_nl"
  | "iq4_xs";

/** The integers of one block of up to 256 weights. Factors of formats without sub-blocks are 1. */
export interface BlockIntegers {
  readonly quants: Uint8Array;
  readonly subScales: Int8Array;
  readonly subMinimums: Uint8Array;
  /** f16 bits. */
  scale: number;
  minimum: number;
}

export const newBlock = (): BlockIntegers => ({
  quants: new Uint8Array(256),
  subScales: new Int8Array(16).fill(1),
  subMinimums: new Uint8Array(16).fill(1),
  scale: 0,
  minimum: 0,
});

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
  /** `block`: f16, added; `sub`: f16 × sub-minimums, subtracted. */
  readonly minimum: "none" | "block" | "sub";
  unpack(bytes: Uint8Array, at: number, into: BlockIntegers): void;
}

const u16 = (bytes: Uint8Array, at: number): number => bytes[at] | (bytes[at + 1] << 8);

/** 32 quants of 4 bits: low halves first. */
function nibbles(bytes: Uint8Array, at: number, quants: Uint8Array): void {
  for (let i = 0; i < 16; i++) {
    quants[i] = bytes[at + i] & 15;
    quants[i + 16] = bytes[at + i] >> 4;
  }
}

/** Adds a fifth bit to each of 32 quants. */
function fifthBits(bytes: Uint8Array, at: number, quants: Uint8Array): void {
  for (let i = 0; i < 32; i++) quants[i] |= ((bytes[at + (i >> 3)] >> (i & 7)) & 1) << 4;
}

/** 8 pairs of 6-bit scale and minimum in 12 bytes (Q4_K, Q5_K). */
function sixBitPairs(bytes: Uint8Array, at: number, into: BlockIntegers): void {
  for (let j = 0; j < 4; j++) {
    into.subScales[j] = bytes[at + j] & 63;
    into.subMinimums[j] = bytes[at + j + 4] & 63;
    into.subScales[j + 4] = (bytes[at + j + 8] & 15) | ((bytes[at + j] >> 6) << 4);
    into.subMinimums[j + 4] = (bytes[at + j + 8] >> 4) | ((bytes[at + j + 4] >> 6) << 4);
  }
}

/** The 16 values that IQ4 quants index, + 128. */
const iq4Values = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113].map(
  (value) => value + 128,
);

const q4_0: IntegerFormat = {
  ggmlType: 2,
  block: 32,
  bytes: 18,
  zero: 8,
  range: 15,
  subBlock: 32,
  minimum: "none",
  unpack(bytes, at, into) {
    into.scale = u16(bytes, at);
    nibbles(bytes, at + 2, into.quants);
  },
};

const q4_1: IntegerFormat = {
  ggmlType: 3,
  block: 32,
  bytes: 20,
  zero: 0,
  range: 15,
  subBlock: 32,
  minimum: "block",
  unpack(bytes, at, into) {
    into.scale = u16(bytes, at);
    into.minimum = u16(bytes, at + 2);
    nibbles(bytes, at + 4, into.quants);
  },
};

const q5_0: IntegerFormat = {
  ggmlType: 6,
  block: 32,
  bytes: 22,
  zero: 16,
  range: 31,
  subBlock: 32,
  minimum: "none",
  unpack(bytes, at, into) {
    into.scale = u16(bytes, at);
    nibbles(bytes, at + 6, into.quants);
    fifthBits(bytes, at + 2, into.quants);
  },
};

const q5_1: IntegerFormat = {
  ggmlType: 7,
  block: 32,
  bytes: 24,
  zero: 0,
  range: 31,
  subBlock: 32,
  minimum: "block",
  unpack(bytes, at, into) {
    into.scale = u16(bytes, at);
    into.minimum = u16(bytes, at + 2);
    nibbles(bytes, at + 8, into.quants);
    fifthBits(bytes, at + 4, into.quants);
  },
};

const q8_0: IntegerFormat = {
  ggmlType: 8,
  block: 32,
  bytes: 34,
  zero: 128,
  range: 255,
  subBlock: 32,
  minimum: "none",
  unpack(bytes, at, into) {
    into.scale = u16(bytes, at);
    for (let i = 0; i < 32; i++) into.quants[i] = bytes[at + 2 + i] ^ 128;
  },
};

const q2_k: IntegerFormat = {
  ggmlType: 10,
  block: 256,
  bytes: 84,
  zero: 0,
  range: 3,
  subBlock: 16,
  minimum: "sub",
  unpack(bytes, at, into) {
    into.scale = u16(bytes, at + 80);
    into.minimum = u16(bytes, at + 82);
    for (let sub = 0; sub < 16; sub++) {
      into.subScales[sub] = bytes[at + sub] & 15;
      into.subMinimums[sub] = bytes[at + sub] >> 4;
    }
    for (let i = 0; i < 256; i++)
      into.quants[i] = (bytes[at + 16 + 32 * (i >> 7) + (i & 31)] >> (2 * ((i >> 5) & 3))) & 3;
  },
};

const q3_k: IntegerFormat = {
  ggmlType: 11,
  block: 256,
  bytes: 110,
  zero: 4,
  range: 7,
  subBlock: 16,
  minimum: "none",
  unpack(bytes, at, into) {
    into.scale = u16(bytes, at + 108);
    for (let sub = 0; sub < 16; sub++) {
      const low = (bytes[at + 96 + (sub & 7)] >> (4 * (sub >> 3))) & 15;
      const high = (bytes[at + 104 + (sub & 3)] >> (2 * (sub >> 2))) & 3;
      into.subScales[sub] = (low | (high << 4)) - 32;
    }
    for (let i = 0; i < 256; i++) {
      const low = (bytes[at + 32 + 32 * (i >> 7) + (i & 31)] >> (2 * ((i >> 5) & 3))) & 3;
      into.quants[i] = low | (((bytes[at + (i & 31)] >> (i >> 5)) & 1) << 2);
    }
  },
};

const q4_k: IntegerFormat = {
  ggmlType: 12,
  block: 256,
  bytes: 144,
  zero: 0,
  range: 15,
  subBlock: 32,
  minimum: "sub",
  unpack(bytes, at, into) {
    into.scale = u16(bytes, at);
    into.minimum = u16(bytes, at + 2);
    sixBitPairs(bytes, at + 4, into);
    for (let i = 0; i < 256; i++)
      into.quants[i] = (bytes[at + 16 + 32 * (i >> 6) + (i & 31)] >> (4 * ((i >> 5) & 1))) & 15;
  },
};

const q5_k: IntegerFormat = {
  ggmlType: 13,
  block: 256,
  bytes: 176,
  zero: 0,
  range: 31,
  subBlock: 32,
  minimum: "sub",
  unpack(bytes, at, into) {
    into.scale = u16(bytes, at);
    into.minimum = u16(bytes, at + 2);
    sixBitPairs(bytes, at + 4, into);
    for (let i = 0; i < 256; i++) {
      const low = (bytes[at + 48 + 32 * (i >> 6) + (i & 31)] >> (4 * ((i >> 5) & 1))) & 15;
      into.quants[i] = low | (((bytes[at + 16 + (i & 31)] >> (i >> 5)) & 1) << 4);
    }
  },
};

const q6_k: IntegerFormat = {
  ggmlType: 14,
  block: 256,
  bytes: 210,
  zero: 32,
  range: 63,
  subBlock: 16,
  minimum: "none",
  unpack(bytes, at, into) {
    into.scale = u16(bytes, at + 208);
    for (let sub = 0; sub < 16; sub++) into.subScales[sub] = (bytes[at + 192 + sub] << 24) >> 24;
    for (let i = 0; i < 256; i++) {
      const quarter = (i >> 5) & 3;
      const low = bytes[at + 64 * (i >> 7) + 32 * (quarter & 1) + (i & 31)] >> (4 * (quarter >> 1));
      const high = bytes[at + 128 + 32 * (i >> 7) + (i & 31)] >> (2 * quarter);
      into.quants[i] = (low & 15) | ((high & 3) << 4);
    }
  },
};

const iq4_nl: IntegerFormat = {
  ggmlType: 20,
  block: 32,
  bytes: 18,
  zero: 128,
  range: 255,
  subBlock: 32,
  minimum: "none",
  unpack(bytes, at, into) {
    q4_0.unpack(bytes, at, into);
    for (let i = 0; i < 32; i++) into.quants[i] = iq4Values[into.quants[i]];
  },
};

const iq4_xs: IntegerFormat = {
  ggmlType: 23,
  block: 256,
  bytes: 136,
  zero: 128,
  range: 255,
  subBlock: 32,
  minimum: "none",
  unpack(bytes, at, into) {
    into.scale = u16(bytes, at);
    const highs = u16(bytes, at + 2);
    for (let sub = 0; sub < 8; sub++) {
      const low = (bytes[at + 4 + (sub >> 1)] >> (4 * (sub & 1))) & 15;
      into.subScales[sub] = (low | (((highs >> (2 * sub)) & 3) << 4)) - 32;
    }
    for (let i = 0; i < 256; i++)
      into.quants[i] =
        iq4Values[(bytes[at + 8 + 16 * (i >> 5) + (i & 15)] >> (i & 16 ? 4 : 0)) & 15];
  },
};

export const integerFormats: Readonly<Record<IntegerFormatName, IntegerFormat>> = {
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
};
