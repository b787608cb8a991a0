import { InputError, UnsupportedError } from "../base/errors.ts";

/**
 * A walk over a GGUF header that allocates nothing of what it claims. The parser that follows (@huggingface/gguf) reads zeros
 * where a file ends too early, lets a later key replace an earlier one, and parses a long array again for each 2 MB of it
 * (26 s for 39 MB). So the walk finds the end, checks what the parser does not, and notes long values, to be cut out for it.
 */
export interface Scan {
  /** First byte after the header. */
  readonly end: number;
  readonly longValues: readonly LongValue[];
}

/** An array, or a string of more than `longString` bytes: a count of 8 bytes at `countAt`, then the items up to `end`. */
export interface LongValue {
  readonly key: string;
  readonly itemType: number;
  readonly isArray: boolean;
  readonly count: number;
  readonly countAt: number;
  readonly end: number;
}

export interface HeadSource {
  readonly path: string;
  /** Of the whole file. */
  readonly size: number;
}

/** Thrown where the walk leaves the bytes that were given but not the file: more are needed. */
export class HeadTooShort extends Error {
  readonly need: number;
  constructor(need: number) {
    super(`${need} bytes are needed`);
    this.need = need;
  }
}

const stringType = 8;
const arrayType = 9;
interface Scalar {
  readonly bytes: number;
  read(view: DataView, at: number): number | bigint | boolean;
}
const scalars: ReadonlyMap<number, Scalar> = new Map([
  [0, { bytes: 1, read: (view, at) => view.getUint8(at) }],
  [1, { bytes: 1, read: (view, at) => view.getInt8(at) }],
  [2, { bytes: 2, read: (view, at) => view.getUint16(at, true) }],
  [3, { bytes: 2, read: (view, at) => view.getInt16(at, true) }],
  [4, { bytes: 4, read: (view, at) => view.getUint32(at, true) }],
  [5, { bytes: 4, read: (view, at) => view.getInt32(at, true) }],
  [6, { bytes: 4, read: (view, at) => view.getFloat32(at, true) }],
  [7, { bytes: 1, read: (view, at) => view.getUint8(at) !== 0 }],
  [10, { bytes: 8, read: (view, at) => view.getBigUint64(at, true) }],
  [11, { bytes: 8, read: (view, at) => view.getBigInt64(at, true) }],
  [12, { bytes: 8, read: (view, at) => view.getFloat64(at, true) }],
] satisfies [number, Scalar][]);

/** Far above every published file: they have up to 2 000 tensors, 100 keys and 1.5 million array items. */
const most = { tensors: 65_536, keys: 65_536, items: 8_000_000, name: 65_535, longString: 65_536 };
/** Keys that mean something else in the parser's result, or in every object of JavaScript. */
const reserved: ReadonlySet<string> = new Set(["version", "tensor_count", "kv_count", "__proto__"]);

export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const textOf = (view: DataView): Buffer =>
  Buffer.from(view.buffer, view.byteOffset, view.byteLength);

export function scanHeader(bytes: Uint8Array, source: HeadSource): Scan {
  const walk = new Walk(bytes, source);
  walk.start();
  const tensors = walk.count("tensors", most.tensors);
  const keys = walk.count("keys", most.keys);
  const seen = new Set<string>();
  const longValues: LongValue[] = [];
  for (let key = 0; key < keys; key++) {
    const value = walk.keyAndValue(seen);
    if (value !== undefined) longValues.push(value);
  }
  seen.clear();
  for (let tensor = 0; tensor < tensors; tensor++) walk.tensor(seen);
  return { end: walk.at, longValues };
}

class Walk {
  at = 0;
  #items = 0;
  readonly #view: DataView;
  readonly #text: Buffer;
  readonly #source: HeadSource;

  constructor(bytes: Uint8Array, source: HeadSource) {
    this.#view = viewOf(bytes);
    this.#text = textOf(this.#view);
    this.#source = source;
  }

  #fail(problem: string): InputError {
    const { path } = this.#source;
    return new InputError(
      "gguf-header",
      `${path}: expected a GGUF header, but ${problem}; the file is damaged: download it again`,
      { path, at: this.at },
    );
  }

  /** Steps over `length` bytes that are there, and returns where they begin. */
  #step(length: number, what: string): number {
    const start = this.at;
    const end = start + length;
    if (end > this.#source.size)
      throw this.#fail(
        `at byte ${start} ${what} takes ${length} bytes and the file has ${this.#source.size}`,
      );
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

  #name(what: string, seen: Set<string>): string {
    const length = this.#u64(`the length of ${what}`);
    if (length > most.name) throw this.#fail(`at byte ${this.at} ${what} has ${length} bytes`);
    const start = this.#step(length, what);
    const name = this.#text.toString("utf8", start, this.at);
    if (seen.has(name)) throw this.#fail(`${what} ${JSON.stringify(name)} is there twice`);
    seen.add(name);
    return name;
  }

  start(): void {
    const { path } = this.#source;
    const magic = this.#text.toString("latin1", this.#step(4, "the magic number"), this.at);
    if (magic !== "GGUF") throw this.#fail(`it begins with ${JSON.stringify(magic)}, not "GGUF"`);
    const version = this.#u32("the version");
    if (version === 2 || version === 3) return;
    const found = (version & 0xffff) === 0 ? "a big-endian file" : `version ${version}`;
    throw new UnsupportedError(
      "gguf-version",
      `${path}: expected GGUF of version 2 or 3, little-endian, got ${found}; convert the model again`,
      { path, version },
    );
  }

  count(what: string, limit: number): number {
    const count = this.#u64(`the number of ${what}`);
    if (count > limit)
      throw this.#fail(`it claims ${count} ${what}, and at most ${limit} are plausible`);
    return count;
  }

  keyAndValue(seen: Set<string>): LongValue | undefined {
    const key = this.#name("the key", seen);
    if (reserved.has(key)) throw this.#fail(`it has a key ${JSON.stringify(key)}`);
    const type = this.#u32(`the type of ${key}`);
    if (type === arrayType) return this.#array(key);
    if (type === stringType) return this.#string(key);
    this.#step(this.#scalar(type, key).bytes, key);
    return undefined;
  }

  #scalar(type: number, key: string): Scalar {
    const scalar = scalars.get(type);
    if (scalar === undefined) throw this.#fail(`${key} has the unknown value type ${type}`);
    return scalar;
  }

  #string(key: string): LongValue | undefined {
    const countAt = this.at;
    const count = this.#u64(`the length of ${key}`);
    this.#step(count, key);
    if (count <= most.longString) return undefined;
    return { key, itemType: stringType, isArray: false, count, countAt, end: this.at };
  }

  #array(key: string): LongValue {
    const itemType = this.#u32(`the item type of ${key}`);
    if (itemType === arrayType) throw this.#fail(`${key} is an array of arrays`);
    const countAt = this.at;
    const count = this.#u64(`the length of ${key}`);
    this.#items += count;
    if (this.#items > most.items)
      throw this.#fail(
        `with ${key} its arrays claim ${this.#items} items, and at most ${most.items} are plausible`,
      );
    if (itemType === stringType)
      for (let item = 0; item < count; item++) this.#step(this.#u64(key), key);
    else this.#step(count * this.#scalar(itemType, key).bytes, key);
    return { key, itemType, isArray: true, count, countAt, end: this.at };
  }

  tensor(seen: Set<string>): void {
    const name = this.#name("the tensor", seen);
    const dims = this.#u32(`the rank of ${name}`);
    if (dims < 1 || dims > 4) throw this.#fail(`tensor ${name} has ${dims} dimensions`);
    this.#step(8 * dims + 4 + 8, `the place of ${name}`);
  }
}

/** The value of what was cut out: plain arrays and strings, as the parser would give them. */
export function readLongValue(view: DataView, value: LongValue): unknown {
  const { itemType, isArray, count, countAt, end } = value;
  const text = textOf(view);
  if (!isArray) return text.toString("utf8", countAt + 8, end);
  const scalar = scalars.get(itemType);
  if (scalar !== undefined)
    return Array.from({ length: count }, (_, item) =>
      scalar.read(view, countAt + 8 + item * scalar.bytes),
    );
  let at = countAt + 8;
  return Array.from({ length: count }, () => {
    const start = at + 8;
    at = start + view.getUint32(at, true); // the walk has seen that it ends in these bytes
    return text.toString("utf8", start, at);
  });
}
