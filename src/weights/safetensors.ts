import { refusal, UnsupportedError, type Refusal } from "../base/errors.ts";
import { isObject } from "../base/json.ts";
import { formatBytes, type FormatName } from "../quant/formats.ts";
import { mostJsonBytes, parseObject, readObject, storageOf, type WeightFile } from "./file.ts";
import { columnsOf, rowsOf, tensorsIn, type CheckpointTensor } from "./tensors.ts";

/** Types of safetensors that can be weights here. */
const types: Readonly<Record<string, FormatName>> = { F32: "f32", F16: "f16", BF16: "bf16" };

/**
 * The tensors of one file (github.com/huggingface/safetensors): u64 length of the header, the header as JSON, data. A tensor takes
 * about 120 bytes of a header; the format allows 100 MB, which JSON.parse can take half a minute and 6 GB for. `indexed` are names
 * that must be there. Errors: InputError, UnsupportedError for a type that is not computed.
 */
export async function readSafetensors(
  file: WeightFile,
  indexed: readonly string[] = [],
): Promise<CheckpointTensor[]> {
  const fail: Refusal = refusal("safetensors", file.path);
  if (file.size < 8) fail(`expected a safetensors file, got ${file.size} bytes`);
  const head = await file.read(0, new Uint8Array(8));
  const length = Number(new DataView(head.buffer).getBigUint64(0, true));
  const most = Math.min(mostJsonBytes, file.size - 8);
  const problem = `expected a header of at most ${most} bytes, it says ${length}`;
  if (length > most) fail(`${problem}; is the file truncated or of another kind?`);
  const text = await file.read(8, new Uint8Array(length));
  const { __metadata__, ...header } = parseObject(text, `${file.path}, header`);
  const places = Object.entries(header).map(([name, entry]) => placeOf(file.path, name, entry));
  const start = 8 + length;
  const tensors = tensorsIn(file, places, start);
  // None shares bytes with another, so a hole, or a name that is there twice, shows in the sum.
  const bytes = places.reduce((sum, place) => sum + place.bytes, 0);
  if (start + bytes !== file.size)
    fail(`its tensors have ${bytes} bytes, the file ${file.size - start} after the header`);
  const missing = indexed.find((name) => !Object.hasOwn(header, name));
  const refuse = refusal("missing-tensor", file.path, { name: missing });
  if (missing !== undefined) refuse(`the index says that ${missing} is in it, but it is not`);
  return tensors;
}

function placeOf(path: string, name: string, entry: unknown) {
  const where = `${path}: tensor ${name}`;
  const fail: Refusal = refusal("safetensors", where, { name });
  const { dtype, shape, data_offsets: offsets } = isObject(entry) ? entry : {};
  if (!isSizes(shape) || shape.length === 0) fail("expected shape to be a list of sizes");
  if (!isSizes(offsets) || offsets.length !== 2) fail("expected data_offsets to be two offsets");
  const problem = `expected the type ${Object.keys(types).join(", ")}, got ${JSON.stringify(dtype)}`;
  if (typeof dtype !== "string" || !Object.hasOwn(types, dtype))
    throw new UnsupportedError("tensor-type", `${where}: ${problem}`, { name, dtype });
  const format = types[dtype];
  const [offset, bytes] = [offsets[0], offsets[1] - offsets[0]];
  const needed = formatBytes(format, rowsOf(shape) * columnsOf(shape));
  if (bytes !== needed) fail(`its shape needs ${needed} bytes, data_offsets give it ${bytes}`);
  return { name, format, shape, offset, bytes };
}

const isSizes = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);

/** Paths of files, and the tensors that an index says are in each. */
export type Index = ReadonlyMap<string, readonly string[]>;

export async function readIndex(path: string): Promise<Index> {
  const fail: Refusal = refusal("safetensors-index", path);
  const { dirname, join } = storageOf(path);
  const { weight_map: map } = await readObject(path);
  if (!isObject(map)) fail("expected weight_map to name a file for each tensor");
  return Map.groupBy(Object.keys(map), (name) => {
    const file = map[name];
    if (typeof file !== "string") fail(`expected weight_map to name a file for ${name}`);
    if (/[/\\]/.test(file)) fail(`${name}: expected a file of the same folder, got ${file}`);
    return join(dirname(path), file);
  });
}
