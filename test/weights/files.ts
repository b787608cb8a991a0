import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { TramontaneError } from "../../src/base/errors.ts";
import { openCheckpoint } from "../../src/weights/checkpoint.ts";

/** A folder that lives as long as the tests of a file. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "tramontane-weights-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  return folder;
}

export const goldenPath = (...parts: readonly string[]): string =>
  join(new URL("../goldens/", import.meta.url).pathname, ...parts);

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
export const u64 = (value: number | bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const text = (value: string): Buffer =>
  Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
const f32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
};

/** A value of GGUF: its type and its bytes. */
export type Value = readonly [type: number, bytes: Buffer];
export const uint = (value: number): Value => [4, u32(value)];
export const float = (value: number): Value => [6, f32(value)];
export const bool = (value: boolean): Value => [7, Buffer.from([Number(value)])];
export const string = (value: string): Value => [8, text(value)];
export const array = (type: number, count: number | bigint, items: Buffer): Value => [
  9,
  Buffer.concat([u32(type), u64(count), items]),
];
export const strings = (values: readonly string[]): Value =>
  array(8, values.length, Buffer.concat(values.map(text)));

export interface GgufTensor {
  readonly name: string;
  /** Innermost first, as in the file. */
  readonly dims: readonly (number | bigint)[];
  readonly type: number;
  readonly offset: number | bigint;
}
export interface GgufParts {
  readonly magic?: string;
  readonly version?: number;
  readonly keys: readonly (readonly [string, Value])[];
  readonly tensors: readonly GgufTensor[];
  /** Where the header lies about itself. */
  readonly tensorCount?: number | bigint;
  readonly keyCount?: number | bigint;
  readonly dataBytes: number;
}

export function ggufBytes(parts: GgufParts): Buffer {
  const header = Buffer.concat([
    Buffer.from(parts.magic ?? "GGUF"),
    u32(parts.version ?? 3),
    u64(parts.tensorCount ?? parts.tensors.length),
    u64(parts.keyCount ?? parts.keys.length),
    ...parts.keys.flatMap(([key, [type, bytes]]) => [text(key), u32(type), bytes]),
    ...parts.tensors.flatMap(({ name, dims, type, offset }) => [
      text(name),
      u32(dims.length),
      ...dims.map(u64),
      u32(type),
      u64(offset),
    ]),
  ]);
  const padding = Buffer.alloc((32 - (header.length % 32)) % 32);
  return Buffer.concat([header, padding, Buffer.alloc(parts.dataBytes)]);
}

/** The smallest llama-shaped metadata: one head of 32, no layers' weights. */
export const llamaKeys: readonly (readonly [string, Value])[] = [
  ["general.architecture", string("llama")],
  ["llama.block_count", uint(1)],
  ["llama.context_length", uint(64)],
  ["llama.embedding_length", uint(32)],
  ["llama.feed_forward_length", uint(64)],
  ["llama.attention.head_count", uint(1)],
  ["llama.attention.layer_norm_rms_epsilon", float(1e-5)],
];
/** token_embd [8, 32] as f32, 1024 bytes. */
export const embedding: GgufTensor = {
  name: "token_embd.weight",
  dims: [32, 8],
  type: 0,
  offset: 0,
};
export const smallGguf: GgufParts = { keys: llamaKeys, tensors: [embedding], dataBytes: 1024 };

/** `header` as given, or as JSON of the object. */
export function safetensorsBytes(
  header: unknown,
  dataBytes: number,
  length?: number | bigint,
): Buffer {
  const json = typeof header === "string" ? header : JSON.stringify(header);
  return Buffer.concat([
    u64(length ?? Buffer.byteLength(json)),
    Buffer.from(json),
    Buffer.alloc(dataBytes),
  ]);
}

/** Writes a file into a folder and returns its path. */
export function write(folder: string, name: string, content: Uint8Array | string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

/** A file must be refused within 5 s; none takes more than one on an idle machine. */
export const patience = 5000;
export const mebibyte: number = 2 ** 20;
/** What a header claims that lies. */
export const tooMuch: bigint = 2n ** 60n;

/** The error with which a checkpoint is refused. */
export async function refusal(path: string): Promise<TramontaneError> {
  try {
    await (await openCheckpoint(path))[Symbol.asyncDispose]();
  } catch (error) {
    if (error instanceof TramontaneError) return error;
    throw error;
  }
  throw new Error(`${path} was opened`);
}
