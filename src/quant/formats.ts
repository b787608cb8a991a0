import { InputError } from "../base/errors.ts";
import { bf16ToNumber, f16Table, f16ToNumber } from "../base/half.ts";
import { integerFormats, newBlock, type IntegerFormat, type IntegerFormatName } from "./blocks.ts";

export type FloatFormatName = "f32" | "f16" | "bf16";
export type FormatName = FloatFormatName | IntegerFormatName;

/** A weight format of GGUF: its number there, and how many weights share how many bytes. */
export interface Format {
  readonly ggmlType: number;
  readonly block: number;
  readonly bytes: number;
}

const integer = (name: IntegerFormatName): Format => {
  const { ggmlType, block, bytes } = integerFormats[name];
  return { ggmlType, block, bytes };
};

export const formats: Readonly<Record<FormatName, Format>> = {
  f32: { ggmlType: 0, block: 1, bytes: 4 },
  f16: { ggmlType: 1, block: 1, bytes: 2 },
  bf16: { ggmlType: 30, block: 1, bytes: 2 },
  q4_0: integer("q4_0"),
  q4_1: integer("q4_1"),
  q5_0: integer("q5_0"),
  q5_1: integer("q5_1"),
  q8_0: integer("q8_0"),
  q2_k: integer("q2_k"),
  q3_k: integer("q3_k"),
  q4_k: integer("q4_k"),
  q5_k: integer("q5_k"),
  q6_k: integer("q6_k"),
  iq4_nl: integer("iq4_nl"),
  iq4_xs: integer("iq4_xs"),
};
export const formatNames: readonly FormatName[] = Object.keys(formats) as FormatName[];

export const isFloat = (format: FormatName): format is FloatFormatName =>
  !Object.hasOwn(integerFormats, format);

/** Bytes of `count` weights, which must be whole blocks. */
export function formatBytes(format: FormatName, count: number): number {
  const { block, bytes } = formats[format];
  if (count % block !== 0)
    throw new InputError(
      "format-blocks",
      `${format} stores whole blocks of ${block} weights, got ${count}`,
    );
  return (count / block) * bytes;
}

/** Writes the values of whole blocks as f32, exactly as ggml's dequantize_row_* does. */
export function dequantize(format: FormatName, bytes: Uint8Array, out: Float32Array): void {
  if (isFloat(format)) dequantizeFloat(format, bytes, out);
  else dequantizeInteger(format, bytes, out);
}

function dequantizeFloat(format: FloatFormatName, bytes: Uint8Array, out: Float32Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < out.length; at++)
    switch (format) {
      case "f32":
        out[at] = view.getFloat32(4 * at, true);
        break;
      case "f16":
        out[at] = f16Table[view.getUint16(2 * at, true)];
        break;
      case "bf16":
        out[at] = bf16ToNumber(view.getUint16(2 * at, true));
        break;
      default:
        format satisfies never;
    }
}

function dequantizeInteger(name: IntegerFormatName, bytes: Uint8Array, out: Float32Array): void {
  const format = integerFormats[name];
  const { zero, subBlock } = format;
  const block = newBlock();
  for (let at = 0, from = 0; at < out.length; at += format.block, from += format.bytes) {
    format.unpack(bytes, from, block);
    const d = f16ToNumber(block.scale);
    const dMinimum = f16ToNumber(block.minimum);
    for (let i = 0; i < format.block; i++) {
      const sub = Math.floor(i / subBlock);
      const product = Math.fround(d * block.subScales[sub] * (block.quants[i] - zero));
      out[at + i] = withMinimum(format.minimum, product, dMinimum, block.subMinimums[sub]);
    }
  }
}

function withMinimum(
  kind: IntegerFormat["minimum"],
  product: number,
  minimum: number,
  subMinimum: number,
): number {
  switch (kind) {
    case "none":
      return product;
    case "block":
      return product + minimum;
    case "sub":
      return product - minimum * subMinimum;
    default:
      return kind satisfies never;
  }
}
