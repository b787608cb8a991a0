import { InputError, UnsupportedError } from "../base/errors.ts";
import type { WeightFile } from "./file.ts";

/** Keys as in the file; lists are arrays, 64-bit integers are rounded to numbers. */
export type Metadata = ReadonlyMap<string, unknown>;

export interface GgufTensorInfo {
  readonly name: string;
  readonly ggmlType: number;
  /** Outermost first; GGUF itself has it the other way round. */
  readonly shape: readonly number[];
  /** Bytes from `dataStart`. */
  readonly offset: number;
}

export interface GgufHeader {
  readonly metadata: Metadata;
  readonly tensors: readonly GgufTensorInfo[];
  /** Byte of the file that the offsets of tensors count from. */
  readonly dataStart: number;
  readonly alignment: number;
}

/** Holds the header of most models in one read; the largest published ones have 16 MB. */
const firstRead = 4 * 2 ** 20;
const mostHeader = 64 * 2 ** 20;
/** Far above every published file: they have up to 2 000 tensors, 100 keys and 1.5 million array items. */
const most = { tensors: 65_536, keys: 65_536, items: 8_000_000, name: 65_535 };

/**
 * The header of a GGUF file (v2 and v3, little-endian; github.com/ggml-org/ggml, docs/gguf.md). Nothing is allocated that it only
 * claims to have. Errors: InputError with the key or tensor, UnsupportedError.
 */
export async function readGgufHeader(file: WeightFile): Promise<GgufHeader> {
  for (let length = firstRead; ;) {
    const bytes = new Uint8Array(Math.min(length, file.size));
    await file.read(0, bytes);
    try {
      return headerAt(new Cursor(bytes, file));
    } catch (error) {
      if (!(error instanceof HeadTooShort)) throw error;
      if (error.need > mostHeader)
        throw new UnsupportedError(
          "gguf-header-size",
          `${file.path}: the GGUF header has more than ${mostHeader} bytes, which no model needs; convert the model again`,
          { path: file.path, limit: mostHeader },
        );
      length = Math.min(Math.max(4 * length, error.need), mostHeader);
    }
  }
}

function headerAt(cursor: Cursor): GgufHeader {
  cursor.start();
  const tensorCount = cursor.count("tensors", most.tensors);
  const keyCount = cursor.count("keys", most.keys);
  const metadata = new Map<string, unknown>();
  while (metadata.size < keyCount) {
    const key = cursor.name("the key", metadata);
    metadata.set(key, cursor.value(key));
  }
  const tensors = new Map<string, GgufTensorInfo>();
  while (tensors.size < tensorCount) {
    const name = cursor.name("the tensor", tensors);
    tensors.set(name, cursor.tensor(name));
  }
  const alignment = alignmentOf(cursor.file.path, metadata);
  const dataStart = Math.ceil(cursor.at / alignment) * alignment;
  return { metadata, tensors: [...tensors.values()], dataStart, alignment };
}

function alignmentOf(path: string, metadata: Metadata): number {
  const alignment = metadata.get("general.alignment") ?? 32;
  if (
    typeof alignment === "number" &&
    alignment <= 2 ** 30 &&
    Number.isInteger(Math.log2(alignment))
  )
    return alignment;
  throw new InputError(
    "gguf-alignment",
    `${path}: general.alignment: expected a power of two, got ${String(alignment)}; the file is damaged`,
    { path, alignment: String(alignment) },
  );
}

/** Thrown where the cursor leaves the bytes that were given but not the file: more are needed. */
class HeadTooShort extends Error {
  readonly need: number;
  constructor(need: number) {
    super(`${need} bytes are needed`);
    this.need = need;
  }
}

const stringType = 8;
const arrayType = 9;
type Scalar = readonly [bytes: number, read: (view: DataView, at: number) => number | boolean];
/** By the number that GGUF has for the type. */
const scalars: ReadonlyMap<number, Scalar> = new Map<number, Scalar>([
  [0, [1, (view, at) => view.getUint8(at)]],
  [1, [1, (view, at) => view.getInt8(at)]],
  [2, [2, (view, at) => view.getUint16(at, true)]],
  [3, [2, (view, at) => view.getInt16(at, true)]],
  [4, [4, (view, at) => view.getUint32(at, true)]],
  [5, [4, (view, at) => view.getInt32(at, true)]],
  [6, [4, (view, at) => view.getFloat32(at, true)]],
  [7, [1, (view, at) => view.getUint8(at) !== 0]],
  [10, [8, (view, at) => Number(view.getBigUint64(at, true))]],
  [11, [8, (view, at) => Number(view.getBigInt64(at, true))]],
  [12, [8, (view, at) => view.getFloat64(at, true)]],
]);

/** Walks over the first bytes of a file; every step is checked against the bytes that are left. */
class Cursor {
  at = 0;
  readonly file: WeightFile;
  readonly #view: DataView;
  readonly #text: Buffer;
  /** Of all arrays so far. */
  #items = 0;

  constructor(bytes: Uint8Array<ArrayBuffer>, file: WeightFile) {
    this.file = file;
    this.#view = new DataView(bytes.buffer);
    this.#text = Buffer.from(bytes.buffer);
  }

  #fail(problem: string): never {
    const { path } = this.file;
    throw new InputError(
      "gguf-header",
      `${path}: expected a GGUF header, but ${problem}; the file is damaged: download it again`,
      { path, at: this.at },
    );
  }

  /** Steps over `length` bytes that are there, and returns where they begin. */
  #step(length: number, what: string): number {
    const start = this.at;
    const end = start + length;
    const { size } = this.file;
    if (end > size)
      this.#fail(`at byte ${start} ${what} takes ${length} bytes and the file has ${size}`);
    if (end > this.#view.byteLength) throw new HeadTooShort(end);
    this.at = end;
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

  /** UTF-8 behind its length; a TextDecoder would drop a byte order mark. */
  #string(what: string): string {
    const start = this.#step(this.#u64(what), what);
    return this.#text.toString("utf8", start, this.at);
  }

  start(): void {
    const magic = this.#text.toString("latin1", this.#step(4, "the magic number"), this.at);
    if (magic !== "GGUF") this.#fail(`it begins with ${JSON.stringify(magic)}, not "GGUF"`);
    const version = this.#u32("the version");
    if (version === 2 || version === 3) return;
    const { path } = this.file;
    const found = (version & 0xffff) === 0 ? "a big-endian file" : `version ${version}`;
    throw new UnsupportedError(
      "gguf-version",
      `${path}: expected GGUF of version 2 or 3, little-endian, got ${found}; convert the model again`,
      { path, version },
    );
  }

  count(what: string, limit: number): number {
    const count = this.#u64(`the number of ${what}`);
    if (count > limit) this.#fail(`it claims ${count} ${what}, and at most ${limit} are plausible`);
    return count;
  }

  name(what: string, taken: ReadonlyMap<string, unknown>): string {
    const name = this.#string(what);
    if (name.length > most.name) this.#fail(`${what} has ${name.length} characters`);
    if (taken.has(name)) this.#fail(`${what} ${JSON.stringify(name)} is there twice`);
    return name;
  }

  value(key: string): unknown {
    if (key === "__proto__") this.#fail(`it has a key "__proto__"`);
    const type = this.#u32(`the type of ${key}`);
    if (type === arrayType) return this.#array(key);
    if (type === stringType) return this.#string(key);
    const [bytes, read] = this.#scalar(type, key);
    return read(this.#view, this.#step(bytes, key));
  }

  #scalar(type: number, key: string): Scalar {
    return scalars.get(type) ?? this.#fail(`${key} has the unknown value type ${type}`);
  }

  #array(key: string): unknown[] {
    const type = this.#u32(`the item type of ${key}`);
    const count = this.#u64(`the length of ${key}`);
    this.#items += count;
    if (type === arrayType) this.#fail(`${key} is an array of arrays`);
    if (this.#items > most.items)
      this.#fail(
        `with ${key} its arrays claim ${this.#items} items, and at most ${most.items} are plausible`,
      );
    const items: unknown[] = [];
    if (type === stringType) {
      while (items.length < count) items.push(this.#string(key));
      return items;
    }
    const [bytes, read] = this.#scalar(type, key);
    for (let at = this.#step(count * bytes, key); at < this.at; at += bytes)
      items.push(read(this.#view, at));
    return items;
  }

  tensor(name: string): GgufTensorInfo {
    const rank = this.#u32(`the rank of ${name}`);
    if (rank < 1 || rank > 4) this.#fail(`tensor ${name} has ${rank} dimensions`);
    const shape = Array.from({ length: rank }, () => this.#u64(`the shape of ${name}`)).reverse();
    while (shape.length > 1 && shape[0] === 1) shape.shift(); // some writers put sizes of 1 around
    const ggmlType = this.#u32(`the type of ${name}`);
    return { name, ggmlType, shape, offset: this.#u64(`the offset of ${name}`) };
  }
}
