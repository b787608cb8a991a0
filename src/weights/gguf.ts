import { basename, dirname, join } from "node:path";
import { InputError, UnsupportedError } from "../base/errors.ts";
import { formatNames, formats, type FormatName } from "../quant/formats.ts";
import type { WeightFile } from "./file.ts";
import { readGgufHeader, type Metadata } from "./gguf-header.ts";
import { tensorsIn, type CheckpointTensor, type TensorPlace } from "./tensors.ts";

const formatOf = new Map<number, FormatName>(
  formatNames.map((name) => [formats[name].ggmlType, name] as const),
);
/** One file of a checkpoint, which may be all of it. */
export interface GgufPart {
  readonly metadata: Metadata;
  readonly tensors: readonly CheckpointTensor[];
}

/**
 * The metadata and tensors of one file (GGUF v2 and v3, little-endian; github.com/ggml-org/ggml, docs/gguf.md). Errors:
 * InputError, UnsupportedError.
 */
export async function readGguf(file: WeightFile): Promise<GgufPart> {
  const { metadata, tensors, dataStart, alignment } = await readGgufHeader(file);
  const places = tensors.map(({ name, ggmlType, shape, offset }): TensorPlace => {
    const format = formatOf.get(ggmlType);
    if (format === undefined)
      throw new UnsupportedError(
        "tensor-type",
        `${file.path}: tensor ${name}: the type ${ggmlType} is not supported; supported are ${formatNames.join(", ")}`,
        { name, type: ggmlType },
      );
    if (offset % alignment !== 0)
      throw new InputError(
        "gguf",
        `${file.path}: tensor ${name}: expected an offset that is a multiple of ${alignment}, got ${offset}`,
        { name, offset },
      );
    return { name, format, shape, offset: dataStart + offset };
  });
  return { metadata, tensors: tensorsIn(file, places, dataStart) };
}

/** Part and number of parts in the name of a split file: `model-00001-of-00003.gguf`. */
const splitName = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/;

/** All files of a split checkpoint, in order, from the name of any; else the file itself. */
export function splitFiles(path: string): string[] {
  const [, name, part, count] = splitName.exec(basename(path)) ?? [];
  if (name === undefined || Number(part) < 1 || Number(part) > Number(count)) return [path];
  return Array.from({ length: Number(count) }, (_, at) =>
    join(dirname(path), `${name}-${String(at + 1).padStart(5, "0")}-of-${count}.gguf`),
  );
}

/** Checks that the parts belong together. */
export function checkSplit(path: string, parts: readonly GgufPart[]): void {
  const fail = (problem: string): never => {
    throw new InputError("gguf-split", `${path}: ${problem}`, { path });
  };
  parts.forEach(({ metadata }, part) => {
    const count = metadata.get("split.count") || 1;
    if (count !== parts.length)
      fail(
        `split.count says ${String(count)} files, the name says ${parts.length}; keep all files under the names they were published with (NAME-00001-of-00003.gguf)`,
      );
    const number = metadata.get("split.no") ?? part;
    if (number !== part)
      fail(
        `file ${part + 1} says that it is file ${Number(number) + 1} (split.no); fetch it again`,
      );
  });
  const tensors = parts.reduce((sum, part) => sum + part.tensors.length, 0);
  const total = parts[0].metadata.get("split.tensors.count") || tensors;
  if (total !== tensors)
    fail(`expected ${String(total)} tensors in ${parts.length} files, got ${tensors}`);
}
