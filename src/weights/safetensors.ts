import { dirname, join } from "node:path";
import { InputError, UnsupportedError } from "../base/errors.ts";
import { formats, type FormatName } from "../quant/formats.ts";
import { mostJsonBytes, readObject, type WeightFile } from "./file.ts";
import { isObject, parseObject } from "./json.ts";
import { tensorsIn, type CheckpointTensor, type TensorPlace } from "./tensors.ts";

/** Types of safetensors that can be weights here. */
const types: Readonly<Record<string, FormatName>> = { F32: "f32", F16: "f16", BF16: "bf16" };

const bytesOf = (format: FormatName, shape: readonly number[]): number =>
  shape.reduce((product, size) => product * size, formats[format].bytes);

/**
 * A tensor takes about 120 bytes of a header. The format allows 100 MB, which JSON.parse can take half a minute and 6 GB for.
 */
const mostHeader = mostJsonBytes;

/**
 * The tensors of one file (github.com/huggingface/safetensors): u64 length of the header, the header as JSON, data. Errors:
 * InputError, UnsupportedError for a type that is not computed.
 */
export async function readSafetensors(file: WeightFile): Promise<CheckpointTensor[]> {
  const fail = (problem: string): never => {
    throw new InputError("safetensors", `${file.path}: ${problem}`);
  };
  if (file.size < 8) fail(`expected a safetensors file, got ${file.size} bytes`);
  const head = new Uint8Array(8);
  await file.read(0, head);
  const length = Number(new DataView(head.buffer).getBigUint64(0, true));
  const most = Math.min(mostHeader, file.size - 8);
  if (length > most)
    fail(
      `expected a header of at most ${most} bytes, it says ${length}; is the file truncated or of another kind?`,
    );
  const text = new Uint8Array(length);
  await file.read(8, text);
  const header = parseObject(text, `${file.path}, header`);
  const start = 8 + length;
  const entries = Object.entries(header).filter(([name]) => name !== "__metadata__");
  const places = entries.map(([name, entry]) => placeOf(file.path, name, entry, start));
  const tensors = tensorsIn(file, places, start);
  // None shares bytes with another, so a hole, or a name that is there twice, shows in the sum.
  const bytes = tensors.reduce((sum, { format, shape }) => sum + bytesOf(format, shape), 0);
  if (start + bytes !== file.size)
    fail(`its tensors have ${bytes} bytes, the file ${file.size - start} after the header`);
  return tensors;
}

function placeOf(path: string, name: string, entry: unknown, start: number): TensorPlace {
  const fail = (problem: string): never => {
    throw new InputError("safetensors", `${path}: tensor ${name}: ${problem}`, { name });
  };
  const { dtype, shape, data_offsets: offsets } = isObject(entry) ? entry : {};
  if (!isSizes(shape) || shape.length === 0) return fail("expected shape to be a list of sizes");
  if (!isSizes(offsets) || offsets.length !== 2)
    return fail("expected data_offsets to be two offsets");
  const format =
    typeof dtype === "string" && Object.hasOwn(types, dtype) ? types[dtype] : undefined;
  if (format === undefined)
    throw new UnsupportedError(
      "tensor-type",
      `${path}: tensor ${name}: expected the type ${Object.keys(types).join(", ")}, got ${JSON.stringify(dtype)}`,
      { name, dtype },
    );
  const bytes = bytesOf(format, shape);
  if (offsets[1] - offsets[0] !== bytes)
    fail(`its shape needs ${bytes} bytes, data_offsets give it ${offsets[1] - offsets[0]}`);
  return { name, format, shape, offset: start + offsets[0] };
}

const isSizes = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);

/** The files of a sharded checkpoint, and what the index says is in them. */
export async function readIndex(
  path: string,
): Promise<{ readonly files: readonly string[]; readonly fileOf: ReadonlyMap<string, string> }> {
  const { weight_map: map } = await readObject(path);
  if (!isObject(map) || !Object.values(map).every((file) => typeof file === "string"))
    throw new InputError(
      "safetensors-index",
      `${path}: expected weight_map to name a file for each tensor`,
    );
  const fileOf = new Map<string, string>();
  for (const [name, file] of Object.entries(map)) {
    const base = String(file);
    if (/[/\\]/.test(base))
      throw new InputError(
        "safetensors-index",
        `${path}: ${name}: expected a file of the same folder, got ${base}`,
      );
    fileOf.set(name, join(dirname(path), base));
  }
  return { files: [...new Set(fileOf.values())].sort(), fileOf };
}

/** Checks that each tensor of the index is in its file. */
export function checkIndex(
  fileOf: ReadonlyMap<string, string>,
  found: ReadonlyMap<string, readonly CheckpointTensor[]>,
): void {
  for (const [name, file] of fileOf)
    if (!found.get(file)?.some((tensor) => tensor.name === name))
      throw new InputError(
        "missing-tensor",
        `${file}: the index says that ${name} is in it, but it is not`,
        { name },
      );
}
