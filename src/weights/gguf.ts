import { basename, dirname, join } from "node:path";
import { InputError, UnsupportedError } from "../base/errors.ts";
import { formatNames, formats } from "../quant/formats.ts";
import type { WeightFile } from "./file.ts";
import { readGgufHeader, type Metadata } from "./gguf-header.ts";
import { tensorsIn, type CheckpointTensor } from "./tensors.ts";

/** What one file of a checkpoint holds, or all of them. */
interface Contents {
  readonly metadata: Metadata;
  readonly tensors: readonly CheckpointTensor[];
}
const formatOf = new Map(formatNames.map((name) => [formats[name].ggmlType, name] as const));

async function readPart(file: WeightFile): Promise<Contents> {
  const { metadata, tensors, dataStart, alignment } = await readGgufHeader(file);
  const places = tensors.map(({ name, ggmlType, shape, offset }) => {
    const where = `${file.path}: tensor ${name}`;
    const format = formatOf.get(ggmlType);
    if (format === undefined)
      throw new UnsupportedError(
        "tensor-type",
        `${where}: the type ${ggmlType} is not supported; supported are ${formatNames.join(", ")}`,
        { name, type: ggmlType },
      );
    if (offset % alignment !== 0)
      throw new InputError(
        "gguf",
        `${where}: expected an offset that is a multiple of ${alignment}, got ${offset}`,
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

/** The metadata of the first file and the tensors of all. Errors: InputError also where they do not belong together. */
export async function readGguf(path: string, files: readonly WeightFile[]): Promise<Contents> {
  const fail = (problem: string): never => {
    throw new InputError("gguf-split", `${path}: ${problem}`, { path });
  };
  const parts: Contents[] = [];
  for (const file of files) parts.push(await readPart(file));
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
  const [{ metadata }] = parts;
  const tensors = parts.flatMap((part) => part.tensors);
  const total = metadata.get("split.tensors.count") || tensors.length;
  if (total !== tensors.length)
    fail(`expected ${String(total)} tensors in ${parts.length} files, got ${tensors.length}`);
  return { metadata, tensors };
}
