import { refusal, UnsupportedError, type Refusal } from "../base/errors.ts";
import { isWithin } from "../base/limits.ts";
import { formatNames, formats } from "../quant/formats.ts";
import { storageOf, type WeightFile } from "./file.ts";
import { tensorsIn, type CheckpointTensor, type TensorPlace } from "./tensors.ts";

/** All files of a split checkpoint, in order, from the name of any (`model-00001-of-00003.gguf`); else the file itself. */
export function splitFiles(path: string): string[] {
  const { basename, dirname, join } = storageOf(path);
  const [, name, part, count] = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/.exec(basename(path)) ?? [];
  if (name === undefined || Number(part) < 1 || Number(part) > Number(count)) return [path];
  return Array.from({ length: Number(count) }, (_, at) =>
    join(dirname(path), `${name}-${String(at + 1).padStart(5, "0")}-of-${count}.gguf`),
  );
}

/** What one file holds, or all files of a checkpoint. */
export interface Gguf {
  /** Keys as in the file; lists are arrays, 64-bit integers are rounded to numbers. */
  readonly metadata: ReadonlyMap<string, unknown>;
  readonly tensors: readonly CheckpointTensor[];
}

/** The metadata of the first file and the tensors of all. Errors: InputError also where they do not belong together. */
export async function readGguf(path: string, files: readonly WeightFile[]): Promise<Gguf> {
  const fail: Refusal = refusal("gguf-split", path);
  const parts = await Array.fromAsync(files, readGgufHeader);
  parts.forEach(({ metadata }, part) => {
    const count = metadata.get("split.count") || 1;
    const advice = "keep all files under the names they were published with";
    const names = `the name says ${files.length}; ${advice} (NAME-00001-of-00003.gguf)`;
    if (count !== files.length) fail(`split.count says ${String(count)} files, ${names}`);
    const number = metadata.get("split.no") ?? part;
    if (number !== part)
      fail(`file ${part + 1} has ${String(number)} for split.no, and not ${part}; fetch it again`);
  });
  const [{ metadata }] = parts;
  const tensors = parts.flatMap((part) => part.tensors);
  const total = metadata.get("split.tensors.count") || tensors.length;
  if (total !== tensors.length)
    fail(`expected ${String(total)} tensors in ${files.length} files, got ${tensors.length}`);
  return { metadata, tensors };
}

/** Holds the header of most models in one read; the largest published ones have 16 MB. */
const firstRead = 4 * 2 ** 20;
const mostHeader = 64 * 2 ** 20;
/** Far above every published file: they have up to 2 000 tensors, 100 keys and 1.5 million array items. */
const most = { entries: 65_536, items: 8_000_000, name: 65_535 };

/**
 * The header of a GGUF file (v2 and v3, little-endian; github.com/ggml-org/ggml, docs/gguf.md). Nothing is allocated that it only
 * claims to have. Errors: InputError with the key or tensor, UnsupportedError.
 */
export async function readGgufHeader(file: WeightFile): Promise<Gguf> {
  for (let length = firstRead; ; length *= 4) {
    const { buffer } = await file.read(0, new Uint8Array(Math.min(length, file.size)));
    try {
      return headerIn(cursorOver(buffer, file), file);
    } catch (error) {
      if (error !== tooShort) throw error;
    }
  }
}

/** Thrown where a step leaves the bytes that were read but not the file: more are needed. */
const tooShort = new Error("the head is too short");

const formatOf = new Map(formatNames.map((name) => [formats[name].ggmlType, name] as const));
const [booleanType, stringType, arrayType] = [7, 8, 9];
/** What holds scalars of a type, by the number that GGUF has for it: from 0 and from 7 on. */
const holders = [
  [Uint8Array, Int8Array, Uint16Array, Int16Array, Uint32Array, Int32Array, Float32Array],
  [Uint8Array, undefined, undefined, BigUint64Array, BigInt64Array, Float64Array],
].flat();

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true }); // true: a byte order mark stays

type Cursor = ReturnType<typeof cursorOver>;

/** Walks over the first bytes of a file; every step is checked against the bytes that are left. */
function cursorOver(buffer: ArrayBuffer, { path, size }: WeightFile) {
  const view = new DataView(buffer);
  let at = 0;
  const fail: (problem: string, code?: string) => never = (problem, code = "gguf-header") => {
    const told = `expected a GGUF header, but ${problem}; the file is damaged: download it again`;
    return refusal(code, path, { at })(told);
  };
  const refuse = (code: string, problem: string): never => {
    throw new UnsupportedError(code, `${path}: ${problem}`, { path, at });
  };
  /** Checks that `length` bytes are there. */
  const need = (length: number, what: string): void => {
    const end = at + length;
    if (end > size) fail(`at byte ${at} ${what} takes ${length} bytes and the file has ${size}`);
    if (end > mostHeader) {
      const problem = `the GGUF header has more than ${mostHeader} bytes, which no model needs`;
      refuse("gguf-header-size", `${problem}; convert the model again`);
    }
    if (end > buffer.byteLength) throw tooShort;
  };
  /** Steps over `length` bytes, and returns where they begin. */
  const step = (length: number, what: string): number => {
    need(length, what);
    at += length;
    return at - length;
  };
  const u32 = (what: string): number => view.getUint32(step(4, what), true);
  /** Exact up to 2^53; above that it is too large for every use anyway. */
  const u64 = (what: string): number => {
    const start = step(8, what);
    return view.getUint32(start, true) + 2 ** 32 * view.getUint32(start + 4, true);
  };
  const bytes = (length: number, what: string) =>
    new Uint8Array(buffer, step(length, what), length);
  /** UTF-8 behind its length. */
  const string = (what: string): string => utf8.decode(bytes(u64(what), what));
  // `listed`: items of all arrays so far
  return { fail, refuse, need, step, u32, u64, bytes, string, listed: 0 };
}

function headerIn(cursor: Cursor, file: WeightFile): Gguf {
  const magic = String.fromCharCode(...cursor.bytes(4, "the magic number"));
  if (magic !== "GGUF") cursor.fail(`it begins with ${JSON.stringify(magic)}, not "GGUF"`);
  const version = cursor.u32("the version");
  const found = (version & 0xffff) === 0 ? "a big-endian file" : `version ${version}`;
  const told = `expected GGUF of version 2 or 3, little-endian, got ${found}`;
  if (version !== 2 && version !== 3)
    cursor.refuse("gguf-version", `${told}; convert the model again`);
  const tensorCount = cursor.u64("the number of tensors");
  const keyCount = cursor.u64("the number of keys");
  const metadata = named(cursor, "key", keyCount, (key) => valueOf(cursor, key));
  const alignment = metadata.get("general.alignment") ?? 32;
  const problem = `general.alignment: expected a power of two, got ${String(alignment)}`;
  if (!isAlignment(alignment)) return cursor.fail(problem, "gguf-alignment");
  const places = named(cursor, "tensor", tensorCount, (name) => tensorOf(cursor, name, alignment));
  const dataStart = Math.ceil(cursor.step(0, "the data") / alignment) * alignment;
  return { metadata, tensors: tensorsIn(file, [...places.values()], dataStart) };
}

function named<T>(cursor: Cursor, what: string, count: number, read: (name: string) => T) {
  if (count > most.entries)
    cursor.fail(`it claims ${count} ${what}s, and at most ${most.entries} are plausible`);
  const found = new Map<string, T>();
  while (found.size < count) {
    const name = cursor.string(`the ${what}`);
    if (name.length > most.name) cursor.fail(`a ${what} has a name of ${name.length} characters`);
    if (name === "__proto__") cursor.fail(`it has a ${what} "__proto__"`);
    if (found.has(name)) cursor.fail(`the ${what} ${JSON.stringify(name)} is there twice`);
    found.set(name, read(name));
  }
  return found;
}

function valueOf(cursor: Cursor, key: string): unknown {
  const type = cursor.u32(`the type of ${key}`);
  if (type !== arrayType) return itemsOf(cursor, type, 1, key)[0];
  const itemType = cursor.u32(`the item type of ${key}`);
  const count = cursor.u64(`the length of ${key}`);
  if (itemType === arrayType) cursor.fail(`${key} is an array of arrays`);
  cursor.listed += count;
  const claim = `with ${key} its arrays claim ${cursor.listed} items`;
  if (cursor.listed > most.items) cursor.fail(`${claim}, and at most ${most.items} are plausible`);
  return itemsOf(cursor, itemType, count, key);
}

function itemsOf(cursor: Cursor, type: number, count: number, key: string): unknown[] {
  const items: unknown[] = [];
  if (type === stringType) {
    cursor.need(8 * count, key); // each has at least a length
    while (items.length < count) items.push(cursor.string(key));
    return items;
  }
  const Holder = holders[type] ?? cursor.fail(`${key} has the unknown value type ${type}`);
  const bytes = cursor.bytes(count * Holder.BYTES_PER_ELEMENT, key).slice(); // begins anywhere
  for (const value of new Holder(bytes.buffer))
    items.push(type === booleanType ? value !== 0 : Number(value));
  return items;
}

function tensorOf(cursor: Cursor, name: string, alignment: number): TensorPlace {
  const rank = cursor.u32(`the rank of ${name}`);
  if (rank < 1 || rank > 4) cursor.fail(`tensor ${name} has ${rank} dimensions`);
  // Innermost first in the file.
  const shape = Array.from({ length: rank }, () => cursor.u64(`the shape of ${name}`)).reverse();
  while (shape.length > 1 && shape[0] === 1) shape.shift(); // some writers put sizes of 1 around
  const type = cursor.u32(`the type of ${name}`);
  const format = formatOf.get(type);
  if (format === undefined) {
    const problem = `the type ${type} is not supported; supported are ${formatNames.join(", ")}`;
    return cursor.refuse("tensor-type", `tensor ${name}: ${problem}`);
  }
  const offset = cursor.u64(`the offset of ${name}`);
  const problem = `expected an offset that is a multiple of ${alignment}, got ${offset}`;
  if (offset % alignment !== 0) cursor.fail(`tensor ${name}: ${problem}`, "gguf");
  return { name, format, shape, offset };
}

const isAlignment = (value: unknown): value is number =>
  isWithin(value, { least: 1, most: 2 ** 30 }) && Number.isInteger(Math.log2(value));
