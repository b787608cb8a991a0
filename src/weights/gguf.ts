import { basename, dirname, join } from "node:path";
import { gguf } from "@huggingface/gguf";
import { InputError, messageOf, UnsupportedError } from "../base/errors.ts";
import { formatNames, formats, type FormatName } from "../quant/formats.ts";
import { WeightFile } from "./file.ts";
import { tensorsIn, type CheckpointTensor, type TensorPlace } from "./tensors.ts";

export type Metadata = ReadonlyMap<string, unknown>;

const formatOf = new Map<number, FormatName>(
  formatNames.map((name) => [formats[name].ggmlType, name] as const),
);
/** Least bytes of a tensor info (name length, dimensions, type, offset) and of a key with its value. */
const leastInfo = 24;
const leastKey = 13;

/**
 * The metadata and tensors of one file (GGUF v2 and v3, little-endian; github.com/ggml-org/ggml, docs/gguf.md). The library
 * bounds counts and lengths, but reads zeros beyond the end of a file: where everything ends is checked here. Errors:
 * InputError, UnsupportedError.
 */
export async function readGguf(
  file: WeightFile,
): Promise<{ readonly metadata: Metadata; readonly tensors: CheckpointTensor[] }> {
  const fail = (problem: string): never => {
    throw new InputError("gguf", `${file.path}: ${problem}`);
  };
  await checkHead(file, fail);
  const parsed = await gguf(file.path, { allowLocalFile: true }).catch((error: unknown) =>
    fail(`broken GGUF header: ${messageOf(error)}`),
  );
  const { byteRange } = infoRange(parsed);
  if (byteRange > file.size)
    fail(`the header needs ${byteRange} bytes, the file has ${file.size}; it is truncated`);
  const metadata = new Map(
    Object.entries(parsed.metadata).map(([key, value]) => [key, plainNumber(value)] as const),
  );
  const keys = Number(metadata.get("kv_count"));
  for (const name of ["version", "tensor_count", "kv_count"]) metadata.delete(name); // the library's own
  if (metadata.size !== keys) fail(`expected ${keys} different keys, got ${metadata.size}`);
  const alignment = metadata.get("general.alignment") ?? 32;
  if (
    typeof alignment !== "number" ||
    alignment < 8 ||
    alignment > 2 ** 20 ||
    Math.log2(alignment) % 1 !== 0
  )
    fail(`general.alignment: expected a power of two from 8 to 2^20, got ${String(alignment)}`);
  const dataStart = Number(parsed.tensorDataOffset);
  const places = parsed.tensorInfos.map((info): TensorPlace => {
    const format = formatOf.get(info.dtype);
    if (format === undefined)
      throw new UnsupportedError(
        "tensor-type",
        `${file.path}: tensor ${info.name}: the type ${info.dtype} is not supported; supported are ${formatNames.join(", ")}`,
        { name: info.name, type: info.dtype },
      );
    const offset = Number(info.offset);
    if (offset % Number(alignment) !== 0)
      fail(
        `tensor ${info.name}: expected an offset that is a multiple of ${alignment}, got ${offset}`,
      );
    return {
      name: info.name,
      format,
      shape: info.shape.map(Number).reverse(),
      offset: dataStart + offset,
    };
  });
  return { metadata, tensors: tensorsIn(file, places, Math.min(dataStart, file.size)) };
}

/** What can be wrong in the first 24 bytes, before the library allocates by what they say. */
async function checkHead(file: WeightFile, fail: (problem: string) => never): Promise<void> {
  if (file.size < 24) fail(`expected a GGUF file, got ${file.size} bytes`);
  const head = new Uint8Array(24);
  await file.read(0, head);
  const view = new DataView(head.buffer);
  if (new TextDecoder().decode(head.subarray(0, 4)) !== "GGUF")
    fail(`expected a GGUF file, which begins with "GGUF"`);
  const version = view.getUint32(4, true);
  if (version !== 2 && version !== 3)
    throw new UnsupportedError(
      "gguf-version",
      `${file.path}: expected GGUF version 2 or 3, little-endian, got ${version}`,
    );
  const [tensors, keys] = [view.getBigUint64(8, true), view.getBigUint64(16, true)];
  if (Number(tensors) * leastInfo + Number(keys) * leastKey > file.size)
    fail(
      `the header announces ${tensors} tensors and ${keys} keys, more than ${file.size} bytes can hold`,
    );
}

/** Where the tensor infos end. */
function infoRange(parsed: object): { readonly byteRange: number } {
  const range = "tensorInfoByteRange" in parsed ? parsed.tensorInfoByteRange : undefined;
  return { byteRange: Array.isArray(range) ? Number(range[1]) : 0 };
}

const plainNumber = (value: unknown): unknown =>
  typeof value === "bigint" ? Number(value) : value;

/** `model-00001-of-00003.gguf`: all files of a split checkpoint, in order. */
export function splitFiles(path: string): string[] {
  const found = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/.exec(basename(path));
  if (found === null) return [path];
  const [, name, , count] = found;
  return Array.from({ length: Number(count) }, (_, at) =>
    join(dirname(path), `${name}-${String(at + 1).padStart(5, "0")}-of-${count}.gguf`),
  );
}

/** Checks that the parts belong together. */
export function checkSplit(path: string, first: Metadata, parts: number, tensors: number): void {
  const count = first.get("split.count") ?? 1;
  if (count !== parts)
    throw new InputError(
      "gguf-split",
      `${path}: split.count says ${String(count)} files, the name says ${parts}`,
    );
  const total = first.get("split.tensors.count") ?? tensors;
  if (total !== tensors)
    throw new InputError(
      "gguf-split",
      `${path}: expected ${String(total)} tensors in ${parts} files, got ${tensors}`,
    );
}
