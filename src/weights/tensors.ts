import { invariant, refusal } from "../base/errors.ts";
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

/** Where a tensor lies, as a header says: `offset` bytes from the start of the data. */
export type TensorPlace = Omit<CheckpointTensor, "read"> & { readonly offset: number };

export const columnsOf = (shape: readonly number[]): number => shape[shape.length - 1] ?? 1;
export const rowsOf = (shape: readonly number[]): number =>
  shape.slice(0, -1).reduce((a, b) => a * b, 1);

/**
 * Checks that every tensor is whole blocks inside [dataStart, file size) and that none share bytes; their names differ. Errors:
 * InputError with the tensor's name.
 */
export function tensorsIn(
  file: WeightFile,
  places: readonly TensorPlace[],
  dataStart: number,
): CheckpointTensor[] {
  const fail = (name: string) => refusal("tensor", `${file.path}: tensor ${name}`, { name });
  const tensors = places.map(({ name, format, shape, offset: inData }) => {
    const offset = dataStart + inData;
    if (!shape.every((size) => Number.isSafeInteger(size) && size > 0))
      fail(name)(`expected sizes above 0, got [${shape.join(", ")}]`);
    const [rows, columns, { block }] = [rowsOf(shape), columnsOf(shape), formats[format]];
    if (columns % block !== 0)
      fail(name)(`${format} stores whole blocks of ${block}, got rows of ${columns}`);
    const rowBytes = formatBytes(format, columns);
    const end = offset + rows * rowBytes;
    const inside = `within ${dataStart} to ${file.size}, the end of the file`;
    if (!(end <= file.size))
      fail(name)(`expected bytes ${offset} to ${end} ${inside}; is it truncated?`);
    const read: CheckpointTensor["read"] = async (start, count, into) => {
      const isInside = start >= 0 && count >= 0 && start + count <= rows;
      invariant(isInside, `rows ${start} to ${start + count} of ${rows} of ${name}`);
      const bytes = count * rowBytes;
      invariant(into.length >= bytes, `${into.length} bytes for ${count} rows of ${name}`);
      await file.read(offset + start * rowBytes, into.subarray(0, bytes));
    };
    return { name, format, shape, offset, end, read };
  });
  const inOrder = tensors.toSorted((a, b) => a.offset - b.offset);
  inOrder.forEach(({ name, offset }, at) => {
    if (at > 0 && inOrder[at - 1].end > offset)
      fail(name)(`shares bytes with ${inOrder[at - 1].name}`);
  });
  return tensors;
}
