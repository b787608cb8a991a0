import { InputError } from "../base/errors.ts";
import { bf16ToNumber, f16Table, f16ToNumber } from "../base/half.ts";
import { BlockIntegers, integerFormats, type Format, type IntegerFormatName } from "./blocks.ts";

export type FloatFormatName = "f32" | "f16" | "bf16";
export type FormatName = FloatFormatName | IntegerFormatName;

type FloatFormat = Format & { value(bytes: DataView, index: number): number };
const floats: Readonly<Record<FloatFormatName, FloatFormat>> = {
  f32: { ggmlType: 0, block: 1, bytes: 4, value: (bytes, i) => bytes.getFloat32(4 * i, true) },
  f16: { ggmlType: 1, block: 1, bytes: 2, value: (bytes, i) => f16Table[halfAt(bytes, i)] },
  bf16: { ggmlType: 30, block: 1, bytes: 2, value: (bytes, i) => bf16ToNumber(halfAt(bytes, i)) },
};
const halfAt = (bytes: DataView, index: number): number => bytes.getUint16(2 * index, true);

export const formats: Readonly<Record<FormatName, Format>> = { ...floats, ...integerFormats };
export const formatNames: readonly FormatName[] = Object.keys(formats) as FormatName[];

export const isFloat = (format: FormatName): format is FloatFormatName =>
  Object.hasOwn(floats, format);

/** Bytes of `count` weights, which must be whole blocks. */
export function formatBytes(format: FormatName, count: number): number {
  const { block, bytes } = formats[format];
  const problem = `${format} stores whole blocks of ${block} weights, got ${count}`;
  if (count % block !== 0) throw new InputError("format-blocks", problem);
  return (count / block) * bytes;
}

/** Writes the values of whole blocks as f32, exactly as ggml's dequantize_row_* does. */
export function dequantize(format: FormatName, bytes: Uint8Array, out: Float32Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!isFloat(format)) return dequantizeInteger(format, view, out);
  const { value } = floats[format];
  for (let at = 0; at < out.length; at++) out[at] = value(view, at);
}

function dequantizeInteger(name: IntegerFormatName, bytes: DataView, out: Float32Array): void {
  const format = integerFormats[name];
  const { zero, subBlock } = format;
  const block = new BlockIntegers();
  for (let at = 0, from = 0; at < out.length; at += format.block, from += format.bytes) {
    format.unpack(bytes, from, block);
    const scale = f16ToNumber(block.scale);
    const minimum = f16ToNumber(block.minimum);
    for (let i = 0; i < format.block; i++) {
      const sub = Math.floor(i / subBlock);
      const product = Math.fround(scale * block.subScales[sub] * (block.quants[i] - zero));
      out[at + i] = product + minimum * block.subMinimums[sub];
    }
  }
}
