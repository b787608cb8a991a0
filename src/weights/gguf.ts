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

/** Keys as in the file; lists are arrays, 64-bit integers are rounded to numbers. */
export type Metadata = ReadonlyMap<string, unknown>;

/** What one file holds, or all files of a checkpoint. */
export interface Gguf {
  readonly metadata: Metadata;
  readonly tensors: readonly CheckpointTensor[];
}

/** The metadata of the first file and the tensors of all. Errors: InputError also where they do not belong together. */
export async function readGguf(path: string, files: readonly WeightFile[]): Promise<Gguf> {
  const fail: Refusal = refusal("gguf-split", path);
  const parts = await Array.fromAsync(files, readGgufHeader);
  parts.forEach(({ metadata }, part) => {
    const count = metadata.get("split.count") || 1;
    if (count !== files.length) {
      const advice = "keep all files under the names they were published with";
      const names = `the name says ${files.length}; ${advice} (NAME-00001-of-00003.gguf)`;
      fail(`split.count says ${String(count)} files, ${names}`);
    }
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
      return new Cursor(buffer, file).header();
    } catch (error) {
      if (error !== tooShort) throw error;
    }
  }
}

/** Thrown where a step leaves the bytes that were read but not the file: more are needed. */
const tooShort = new Error("the head is too short");

const formatOf = new Map(formatNames.map((name) => [formats[name].ggmlType, name] as const));
const stringType = 8;
const arrayType = 9;
type Scalar = { readonly bytes: number; read(view: DataView, at: number): number | boolean };
/** By the number that GGUF has for the type. */
const scalars: ReadonlyMap<number, Scalar> = new Map<number, Scalar>([
  [0, { bytes: 1, read: (view, at) => view.getUint8(at) }],
  [1, { bytes: 1, read: (view, at) => view.getInt8(at) }],
  [2, { bytes: 2, read: (view, at) => view.getUint16(at, true) }],
  [3, { bytes: 2, read: (view, at) => view.getInt16(at, true) }],
  [4, { bytes: 4, read: (view, at) => view.getUint32(at, true) }],
  [5, { bytes: 4, read: (view, at) => view.getInt32(at, true) }],
  [6, { bytes: 4, read: (view, at) => view.getFloat32(at, true) }],
  [7, { bytes: 1, read: (view, at) => view.getUint8(at) !== 0 }],
  [10, { bytes: 8, read: (view, at) => Number(view.getBigUint64(at, true)) }],
  [11, { bytes: 8, read: (view, at) => Number(view.getBigInt64(at, true)) }],
  [12, { bytes: 8, read: (view, at) => view.getFloat64(at, true) }],
]);

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true }); // true: a byte order mark stays

/** Walks over the first bytes of a file; every step is checked against the bytes that are left. */
class Cursor {
  readonly #file: WeightFile;
  readonly #view: DataView<ArrayBuffer>;
  #at = 0;
  /** Items of all arrays so far. */
  #listed = 0;

  constructor(buffer: ArrayBuffer, file: WeightFile) {
    this.#file = file;
    this.#view = new DataView(buffer);
  }

  #fail(problem: string, code = "gguf-header"): never {
    const told = `expected a GGUF header, but ${problem}; the file is damaged: download it again`;
    return refusal(code, this.#file.path, { at: this.#at })(told);
  }

  #refuse(code: string, problem: string): never {
    const { path } = this.#file;
    throw new UnsupportedError(code, `${path}: ${problem}`, { path, at: this.#at });
  }

  /** Steps over `length` bytes that are there, and returns where they begin. */
  #step(length: number, what: string): number {
    const start = this.#at;
    const end = start + length;
    const { size } = this.#file;
    if (end > size)
      this.#fail(`at byte ${start} ${what} takes ${length} bytes and the file has ${size}`);
    if (end > mostHeader) {
      const problem = `the GGUF header has more than ${mostHeader} bytes, which no model needs`;
      this.#refuse("gguf-header-size", `${problem}; convert the model again`);
    }
    if (end > this.#view.byteLength) throw tooShort;
    this.#at = end;
    return start;
  }

  #u32(what: string): number {
    return this.#view.getUint32(this.#step(4, what), true);
  }

  /** Exact up to 2^53; above that it is too large for every use anyway. */
  #u64(what: string): number {
    const at = this.#step(8, what);
    return this.#view.getUint32(at, true) + 2 ** 32 * this.#view.getUint32(at + 4, true);
  }

  #bytes(length: number, what: string): Uint8Array {
    return new Uint8Array(this.#view.buffer, this.#step(length, what), length);
  }

  /** UTF-8 behind its length. */
  #string(what: string): string {
    return utf8.decode(this.#bytes(this.#u64(what), what));
  }

  header(): Gguf {
    const magic = String.fromCharCode(...this.#bytes(4, "the magic number"));
    if (magic !== "GGUF") this.#fail(`it begins with ${JSON.stringify(magic)}, not "GGUF"`);
    const version = this.#u32("the version");
    if (version !== 2 && version !== 3) {
      const found = (version & 0xffff) === 0 ? "a big-endian file" : `version ${version}`;
      const problem = `expected GGUF of version 2 or 3, little-endian, got ${found}`;
      this.#refuse("gguf-version", `${problem}; convert the model again`);
    }
    const tensorCount = this.#u64("the number of tensors");
    const keyCount = this.#u64("the number of keys");
    const metadata = this.#named("key", keyCount, (key) => this.#value(key));
    const alignment = metadata.get("general.alignment") ?? 32;
    if (!isAlignment(alignment))
      this.#fail(`general.alignment: expected a power of two, got ${alignment}`, "gguf-alignment");
    const places = this.#named("tensor", tensorCount, (name) => this.#tensor(name, alignment));
    const dataStart = Math.ceil(this.#at / alignment) * alignment;
    return { metadata, tensors: tensorsIn(this.#file, [...places.values()], dataStart) };
  }

  #named<T>(what: string, count: number, read: (name: string) => T): Map<string, T> {
    if (count > most.entries)
      this.#fail(`it claims ${count} ${what}s, and at most ${most.entries} are plausible`);
    const found = new Map<string, T>();
    while (found.size < count) {
      const name = this.#string(`the ${what}`);
      if (name.length > most.name) this.#fail(`a ${what} has a name of ${name.length} characters`);
      if (name === "__proto__") this.#fail(`it has a ${what} "__proto__"`);
      if (found.has(name)) this.#fail(`the ${what} ${JSON.stringify(name)} is there twice`);
      found.set(name, read(name));
    }
    return found;
  }

  #value(key: string): unknown {
    const type = this.#u32(`the type of ${key}`);
    if (type !== arrayType) return this.#items(type, 1, key)[0];
    const itemType = this.#u32(`the item type of ${key}`);
    const count = this.#u64(`the length of ${key}`);
    if (itemType === arrayType) this.#fail(`${key} is an array of arrays`);
    if ((this.#listed += count) > most.items) {
      const claim = `with ${key} its arrays claim ${this.#listed} items`;
      this.#fail(`${claim}, and at most ${most.items} are plausible`);
    }
    return this.#items(itemType, count, key);
  }

  #items(type: number, count: number, key: string): unknown[] {
    const items: unknown[] = [];
    if (type === stringType) {
      this.#at = this.#step(8 * count, key); // there and back: each has at least a length
      while (items.length < count) items.push(this.#string(key));
    } else {
      const scalar = scalars.get(type) ?? this.#fail(`${key} has the unknown value type ${type}`);
      const start = this.#step(count * scalar.bytes, key);
      for (let at = start; at < this.#at; at += scalar.bytes)
        items.push(scalar.read(this.#view, at));
    }
    return items;
  }

  #tensor(name: string, alignment: number): TensorPlace {
    const rank = this.#u32(`the rank of ${name}`);
    if (rank < 1 || rank > 4) this.#fail(`tensor ${name} has ${rank} dimensions`);
    // Innermost first in the file.
    const shape = Array.from({ length: rank }, () => this.#u64(`the shape of ${name}`)).reverse();
    while (shape.length > 1 && shape[0] === 1) shape.shift(); // some writers put sizes of 1 around
    const type = this.#u32(`the type of ${name}`);
    const format = formatOf.get(type);
    if (format === undefined) {
      const problem = `the type ${type} is not supported; supported are ${formatNames.join(", ")}`;
      return this.#refuse("tensor-type", `tensor ${name}: ${problem}`);
    }
    const offset = this.#u64(`the offset of ${name}`);
    if (offset % alignment !== 0) {
      const problem = `expected an offset that is a multiple of ${alignment}, got ${offset}`;
      this.#fail(`tensor ${name}: ${problem}`, "gguf");
    }
    return { name, format, shape, offset };
  }
}

const isAlignment = (value: unknown): value is number =>
  isWithin(value, { least: 1, most: 2 ** 30 }) && Number.isInteger(Math.log2(value));
