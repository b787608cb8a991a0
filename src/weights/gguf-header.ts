import { gguf, type GGUFTypedMetadata } from "@huggingface/gguf";
import { InputError, UnsupportedError, messageOf } from "../base/errors.ts";
import type { WeightFile } from "./file.ts";
import {
  HeadTooShort,
  readLongValue,
  scanHeader,
  viewOf,
  type LongValue,
  type Scan,
} from "./gguf-scan.ts";

export type Metadata = ReadonlyMap<string, unknown>;

export interface GgufHeader {
  /** Keys as in the file; 64-bit integers are rounded to numbers. */
  readonly metadata: Metadata;
  readonly tensors: readonly GgufTensorInfo[];
  /** Byte of the file that the offsets of tensors count from. */
  readonly dataStart: number;
  readonly alignment: number;
}

export interface GgufTensorInfo {
  readonly name: string;
  readonly ggmlType: number;
  /** Outermost first; GGUF itself has it the other way round. */
  readonly shape: readonly number[];
  readonly offset: number;
}

/** Holds the header of all models we know, and of most in one read; the largest published ones have 16 MB. */
const firstRead = 4 * 2 ** 20;
const mostHeader = 64 * 2 ** 20;
/** What is left for the parser after the cuts: it stops at 50 MB, and takes a microsecond for each key. */
const mostCutHeader = 16 * 2 ** 20;

export async function readGgufHeader(file: WeightFile): Promise<GgufHeader> {
  const { bytes, scan } = await readHead(file);
  const parsed = await parse(file.path, cutOut(bytes.subarray(0, scan.end), scan.longValues));
  const metadata = new Map<string, unknown>();
  for (const [key, { value }] of Object.entries(parsed.typedMetadata as GGUFTypedMetadata))
    metadata.set(key, typeof value === "bigint" ? Number(value) : value);
  for (const key of ["version", "tensor_count", "kv_count"]) metadata.delete(key);
  for (const value of scan.longValues) metadata.set(value.key, readLongValue(viewOf(bytes), value));
  const alignment = alignmentOf(file.path, metadata);
  return {
    metadata,
    tensors: parsed.tensorInfos.map(({ name, dtype, shape, offset }) => ({
      name,
      ggmlType: dtype,
      shape: shapeOf(shape),
      offset: Number(offset),
    })),
    dataStart: Math.ceil(scan.end / alignment) * alignment,
    alignment,
  };
}

async function readHead(file: WeightFile): Promise<{ bytes: Uint8Array; scan: Scan }> {
  for (let length = firstRead; ;) {
    const bytes = new Uint8Array(Math.min(length, file.size));
    await file.read(0, bytes);
    try {
      return { bytes, scan: scanHeader(bytes, file) };
    } catch (error) {
      if (!(error instanceof HeadTooShort)) throw error;
      length = Math.max(4 * length, error.need);
      if (error.need > mostHeader) throw tooLarge(file.path, mostHeader);
    }
  }
}

const tooLarge = (path: string, limit: number): UnsupportedError =>
  new UnsupportedError(
    "gguf-header-size",
    `${path}: the GGUF header has more than ${limit} bytes, which no model needs; convert the model again`,
    { path, limit },
  );

/** The header with every long value emptied. */
function cutOut(header: Uint8Array, longValues: readonly LongValue[]): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  let from = 0;
  for (const { countAt, end } of longValues) {
    parts.push(header.subarray(from, countAt), new Uint8Array(8));
    from = end;
  }
  return new Uint8Array(Buffer.concat([...parts, header.subarray(from)]));
}

async function parse(path: string, header: Uint8Array<ArrayBuffer>): ReturnType<typeof fromBytes> {
  if (header.length > mostCutHeader) throw tooLarge(path, mostCutHeader);
  try {
    return await fromBytes(header);
  } catch (error) {
    throw new InputError(
      "gguf-header",
      `${path}: the GGUF header cannot be parsed: ${messageOf(error)}; the file is damaged: download it again`,
      { path },
      { cause: error },
    );
  }
}

/** The parser knows URLs and paths; given a URL and a `fetch` it takes bytes, in ranges. */
function fromBytes(header: Uint8Array<ArrayBuffer>) {
  return gguf("http://header", {
    typedMetadata: true,
    fetch: async (_url, init) => {
      const range = new Headers(init?.headers).get("range") ?? "";
      const [start, last] = range.replace("bytes=", "").split("-").map(Number);
      return new Response(header.subarray(start, last + 1));
    },
  });
}

/** Outermost first, without the sizes of 1 that some writers put around. */
function shapeOf(stored: readonly bigint[]): number[] {
  const shape = stored.map(Number).reverse();
  while (shape.length > 1 && shape[0] === 1) shape.shift();
  return shape;
}

function alignmentOf(path: string, metadata: Metadata): number {
  const alignment = metadata.get("general.alignment") ?? 32;
  const plausible = typeof alignment === "number" && alignment >= 1 && alignment <= 2 ** 30;
  if (!plausible || (alignment & (alignment - 1)) !== 0 || !Number.isInteger(alignment))
    throw new InputError(
      "gguf-alignment",
      `${path}: general.alignment: expected a power of two, got ${String(alignment)}; the file is damaged`,
      { path, alignment: String(alignment) },
    );
  return alignment;
}
