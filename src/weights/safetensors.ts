import { dirname, join } from "node:path";
import { InputError, UnsupportedError } from "../base/errors.ts";
import { formats, type FormatName } from "../quant/formats.ts";
import { mostJsonBytes, readObject, type WeightFile } from "./file.ts";
import { isObject, parseObject } from "./json.ts";
import { tensorsIn, type CheckpointTensor, type TensorPlace } from "./tensors.ts";

/** Types of safetensors that can be weights here. */
const types: ReadonlyMap<unknown, FormatName> = new Map([
  ["F32", "f32"],
  ["F16", "f16"],
  ["BF16", "bf16"],
] as const);

const bytesOf = ({ format, shape }: Pick<TensorPlace, "format" | "shape">): number =>
  shape.reduce((product, size) => product * size, formats[format].bytes);

/**
 * The tensors of one file (github.com/huggingface/safetensors): u64 length of the header, the header as JSON, data. A tensor takes
 * about 120 bytes of a header; the format allows 100 MB, which JSON.parse can take half a minute and 6 GB for. Errors: InputError,
 * UnsupportedError for a type that is not computed.
 */
async function readSafetensors(file: WeightFile): Promise<CheckpointTensor[]> {
  const fail = (problem: string): never => {
    throw new InputError("safetensors", `${file.path}: ${problem}`);
  };
  if (file.size < 8) fail(`expected a safetensors file, got ${file.size} bytes`);
  const head = new Uint8Array(8);
  await file.read(0, head);
  const length = Number(new DataView(head.buffer).getBigUint64(0, true));
  const most = Math.min(mostJsonBytes, file.size - 8);
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
  const bytes = places.reduce((sum, place) => sum + bytesOf(place), 0);
  if (start + bytes !== file.size)
    fail(`its tensors have ${bytes} bytes, the file ${file.size - start} after the header`);
  return tensors;
}

function placeOf(path: string, name: string, entry: unknown, start: number): TensorPlace {
  const where = `${path}: tensor ${name}`;
  const fail = (problem: string): never => {
    throw new InputError("safetensors", `${where}: ${problem}`, { name });
  };
  const { dtype, shape, data_offsets: offsets } = isObject(entry) ? entry : {};
  if (!isSizes(shape) || shape.length === 0) return fail("expected shape to be a list of sizes");
  if (!isSizes(offsets) || offsets.length !== 2)
    return fail("expected data_offsets to be two offsets");
  const format = types.get(dtype);
  if (format === undefined)
    throw new UnsupportedError(
      "tensor-type",
      `${where}: expected the type ${[...types.keys()].join(", ")}, got ${JSON.stringify(dtype)}`,
      { name, dtype },
    );
  const [bytes, given] = [bytesOf({ format, shape }), offsets[1] - offsets[0]];
  if (given !== bytes) fail(`its shape needs ${bytes} bytes, data_offsets give it ${given}`);
  return { name, format, shape, offset: start + offsets[0] };
}

const isSizes = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);

/** Paths of files, and the tensors that an index says are in each. */
export type Shards = ReadonlyMap<string, readonly string[]>;

/** The shards of an index; any other file is the only one, and says itself what is in it. */
export async function shardsOf(path: string): Promise<Shards> {
  if (!path.endsWith(".index.json")) return new Map([[path, []]]);
  const fail = (problem: string): never => {
    throw new InputError("safetensors-index", `${path}: ${problem}`);
  };
  const { weight_map: map } = await readObject(path);
  const shards = new Map<string, string[]>();
  if (!isObject(map)) return fail("expected weight_map to name a file for each tensor");
  for (const [name, file] of Object.entries(map)) {
    if (typeof file !== "string") return fail(`${name}: expected weight_map to name its file`);
    if (/[/\\]/.test(file)) fail(`${name}: expected a file of the same folder, got ${file}`);
    const shard = join(dirname(path), file);
    if (!shards.get(shard)?.push(name)) shards.set(shard, [name]);
  }
  return shards;
}

/** The tensors of all shards. Errors: as of one, and InputError where a tensor is not where the index says. */
export async function readShards(
  files: readonly WeightFile[],
  shards: Shards,
): Promise<CheckpointTensor[]> {
  const found: CheckpointTensor[][] = [];
  for (const file of files) {
    const tensors = await readSafetensors(file);
    const names = new Set(tensors.map(({ name }) => name));
    const missing = shards.get(file.path)?.find((name) => !names.has(name));
    if (missing !== undefined)
      throw new InputError(
        "missing-tensor",
        `${file.path}: the index says that ${missing} is in it, but it is not`,
        { name: missing },
      );
    found.push(tensors);
  }
  return found.flat();
}
