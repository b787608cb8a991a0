import { InputError, invariant } from "../base/errors.ts";
import { formatBytes, formats, type FormatName } from "../quant/formats.ts";
import type { WeightFile } from "./file.ts";

/** A tensor of a checkpoint, in its own name and format. */
export interface CheckpointTensor {
  readonly name: string;
  readonly format: FormatName;
  /** Outermost first: [rows, columns] or [columns]. */
  readonly shape: readonly number[];
  /** Reads rows [start, start + count) as they lie in the file. */
  read(start: number, count: number, into: Uint8Array): Promise<void>;
}

/** Where a tensor lies, as a header says. */
export interface TensorPlace {
  readonly name: string;
  readonly format: FormatName;
  readonly shape: readonly number[];
  /** Bytes from the start of the file. */
  readonly offset: number;
}

export const columnsOf = (shape: readonly number[]): number => shape[shape.length - 1] ?? 1;
export const rowsOf = (shape: readonly number[]): number =>
  shape.slice(0, -1).reduce((a, b) => a * b, 1);

/**
 * Checks that every tensor is whole blocks inside [dataStart, file size) and that none share bytes. Errors: InputError with the
 * tensor's name.
 */
export function tensorsIn(
  file: WeightFile,
  places: readonly TensorPlace[],
  dataStart: number,
): CheckpointTensor[] {
  const fail = (name: string, problem: string): never => {
    throw new InputError("tensor", `${file.path}: tensor ${name}: ${problem}`, { name });
  };
  const names = new Set<string>();
  const sized = places.map((place) => {
    const { name, shape, format, offset } = place;
    if (names.has(name)) fail(name, "occurs twice");
    names.add(name);
    const rows = rowsOf(shape);
    const columns = columnsOf(shape);
    if (shape.length === 0 || !shape.every((size) => Number.isSafeInteger(size) && size > 0))
      fail(name, `expected sizes above 0, got [${shape.join(", ")}]`);
    const { block } = formats[format];
    if (columns % block !== 0)
      fail(name, `${format} stores whole blocks of ${block}, got rows of ${columns}`);
    const bytes = rows * formatBytes(format, columns);
    if (offset < dataStart || !(offset + bytes <= file.size))
      fail(
        name,
        `expected bytes ${offset} to ${offset + bytes} within ${dataStart} to ${file.size}, the end of the file; is it truncated?`,
      );
    return { ...place, bytes, rowBytes: formatBytes(format, columns) };
  });
  const inOrder = sized.toSorted((a, b) => a.offset - b.offset);
  inOrder.forEach(({ name, offset }, at) => {
    const before = inOrder[at - 1];
    if (before !== undefined && before.offset + before.bytes > offset)
      fail(name, `shares bytes with ${before.name}`);
  });
  return sized.map(({ name, format, shape, offset, rowBytes }) => ({
    name,
    format,
    shape,
    read: async (start, count, into) => {
      const inside = start >= 0 && count >= 0 && start + count <= rowsOf(shape);
      invariant(inside, `rows ${start} to ${start + count} of ${rowsOf(shape)} of ${name}`);
      invariant(
        into.length >= count * rowBytes,
        `${into.length} bytes for ${count} rows of ${name}`,
      );
      await file.read(offset + start * rowBytes, into.subarray(0, count * rowBytes));
    },
  }));
}
