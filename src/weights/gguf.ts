import { basename, dirname, join } from "node:path";
import { refusal, type Refusal } from "../base/errors.ts";
import type { WeightFile } from "./file.ts";
import { readGgufHeader, type Metadata } from "./gguf-header.ts";
import { tensorsIn, type CheckpointTensor } from "./tensors.ts";

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
export async function readGguf(
  path: string,
  files: readonly WeightFile[],
): Promise<{ readonly metadata: Metadata; readonly tensors: readonly CheckpointTensor[] }> {
  const fail: Refusal = refusal("gguf-split", path);
  const parts: Metadata[] = [];
  const found: CheckpointTensor[][] = [];
  for (const file of files) {
    const { metadata, tensors, dataStart } = await readGgufHeader(file);
    parts.push(metadata);
    found.push(tensorsIn(file, tensors, dataStart));
  }
  parts.forEach((metadata, part) => {
    const count = metadata.get("split.count") || 1;
    if (count !== files.length) {
      const names =
        "keep all files under the names they were published with (NAME-00001-of-00003.gguf)";
      fail(`split.count says ${String(count)} files, the name says ${files.length}; ${names}`);
    }
    const number = metadata.get("split.no") ?? part;
    if (number !== part)
      fail(`file ${part + 1} has ${String(number)} for split.no, and not ${part}; fetch it again`);
  });
  const [metadata] = parts;
  const tensors = found.flat();
  const total = metadata.get("split.tensors.count") || tensors.length;
  if (total !== tensors.length)
    fail(`expected ${String(total)} tensors in ${files.length} files, got ${tensors.length}`);
  return { metadata, tensors };
}
