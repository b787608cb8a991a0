/** Random bytes that are valid weights of a wanted size. */
import { numberToF16 } from "../src/base/half.ts";
import {
  dequantize,
  formats,
  isFloat,
  type FloatFormatName,
  type FormatName,
} from "../src/quant/formats.ts";
import type { IntegerFormatName } from "../src/quant/blocks.ts";

/** Where a block has its f16 scale and minimum, and how large the minimum is for weights around zero, in scales. */
interface Scales {
  readonly scale: number;
  readonly minimum?: { readonly at: number; readonly perScale: number };
}
const scalesOf: Readonly<Record<IntegerFormatName, Scales>> = {
  q4_0: { scale: 0 },
  q4_1: { scale: 0, minimum: { at: 2, perScale: -7.5 } },
  q5_0: { scale: 0 },
  q5_1: { scale: 0, minimum: { at: 2, perScale: -15.5 } },
  q8_0: { scale: 0 },
  q2_k: { scale: 80, minimum: { at: 82, perScale: 1.5 } },
  q3_k: { scale: 108 },
  q4_k: { scale: 0, minimum: { at: 2, perScale: 7.5 } },
  q5_k: { scale: 0, minimum: { at: 2, perScale: 15.5 } },
  q6_k: { scale: 208 },
  iq4_nl: { scale: 0 },
  iq4_xs: { scale: 0 },
};

/** Marsaglia's xorshift32, seeded by a name (FNV-1a): a tensor's weights depend on nothing else. */
export class Random {
  #state = 2_166_136_261;

  constructor(name: string) {
    for (const character of name)
      this.#state = Math.imul(this.#state ^ (character.codePointAt(0) ?? 0), 16_777_619);
    this.#state ||= 1;
  }

  write(words: Uint32Array): void {
    let state = this.#state;
    for (let at = 0; at < words.length; at++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      words[at] = state;
    }
    this.#state = state;
  }
}

/** Bytes must begin at a multiple of 4 in their buffer; the last 0 to 3 of them stay as they are. */
const fillBytes = (bytes: Uint8Array, random: Random): void =>
  random.write(new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2));

/** Fills whole blocks with weights of mean `mean` and standard deviation `deviation`; the mean of quants is zero. */
export function weightFiller(
  format: FormatName,
  mean: number,
  deviation: number,
  random: Random,
): (bytes: Uint8Array) => void {
  if (isFloat(format)) return floatFiller(format, mean, deviation, random);
  const { scale, minimum } = scalesOf[format];
  const size = formats[format].bytes;
  const unit = deviation / deviationOf(format);
  // Without a minimum the quants are not quite around zero: signs of the scales, as in real files, make the weights so.
  const sign = (at: number): number => (minimum === undefined && at & 1 ? -1 : 1);
  const sizes = Array.from({ length: 256 }, (_, at) => sign(at) * unit * (0.5 + at / 255));
  const scales = Uint16Array.from(sizes, numberToF16);
  const minimums = Uint16Array.from(sizes, (value) =>
    numberToF16(value * (minimum?.perScale ?? 0)),
  );
  return (bytes) => {
    fillBytes(bytes, random);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let block = 0; block < bytes.length; block += size) {
      const pick = bytes[block + scale];
      view.setUint16(block + scale, scales[pick], true);
      if (minimum) view.setUint16(block + minimum.at, minimums[pick], true);
    }
  };
}

/** Standard deviation of random blocks whose scales are 1. */
function deviationOf(format: IntegerFormatName): number {
  const { block, bytes: size } = formats[format];
  const { scale, minimum } = scalesOf[format];
  const bytes = new Uint8Array(256 * size);
  fillBytes(bytes, new Random(format));
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += size) {
    view.setUint16(at + scale, numberToF16(1), true);
    if (minimum) view.setUint16(at + minimum.at, numberToF16(minimum.perScale), true);
  }
  const values = new Float32Array(256 * block);
  dequantize(format, bytes, values);
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
}

/** Uniform floats, drawn from a table of 65536. */
function floatFiller(
  format: FloatFormatName,
  mean: number,
  deviation: number,
  random: Random,
): (bytes: Uint8Array) => void {
  const values = Float32Array.from(
    { length: 65536 },
    (_, at) => mean + deviation * Math.sqrt(3) * (at / 32767.5 - 1),
  );
  const bits = new Uint32Array(values.buffer);
  const table = {
    f32: () => bits,
    f16: () => Uint16Array.from(values, numberToF16),
    bf16: () => Uint16Array.from(bits, (word) => word >>> 16),
  }[format]();
  return (bytes) => {
    fillBytes(bytes, random);
    const items =
      format === "f32"
        ? new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2)
        : new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 1);
    for (let at = 0; at < items.length; at++) items[at] = table[items[at] & 65535];
  };
}
