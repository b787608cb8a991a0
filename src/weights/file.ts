import { open, stat, type FileHandle } from "node:fs/promises";
import { InputError, messageOf } from "../base/errors.ts";

/** A file that is read at positions, whole ranges or not at all. */
export class WeightFile implements AsyncDisposable {
  readonly path: string;
  readonly size: number;
  readonly #handle: FileHandle;

  private constructor(path: string, size: number, handle: FileHandle) {
    this.path = path;
    this.size = size;
    this.#handle = handle;
  }

  /** Errors: InputError where the file is not there, not readable, or no file. */
  static async open(path: string): Promise<WeightFile> {
    const handle = await reading(path, () => open(path, "r"));
    const info = await handle.stat();
    if (info.isFile()) return new WeightFile(path, info.size, handle);
    await handle.close();
    throw new InputError("file", `${path}: expected a file, got a folder or a device`);
  }

  /** Fills `into` from `offset` on. Errors: InputError where the file ends before. */
  async read(offset: number, into: Uint8Array): Promise<void> {
    for (let at = 0; at < into.length;) {
      const { bytesRead } = await reading(this.path, () =>
        this.#handle.read(into, at, into.length - at, offset + at),
      );
      if (bytesRead === 0)
        throw new InputError(
          "file-end",
          `${this.path}: the file ends at byte ${offset + at}, ${into.length - at} bytes were expected there; fetch it again`,
        );
      at += bytesRead;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}

/** What a system error means to the reader. */
const reasons: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or folder",
  EACCES: "it may not be read; check its permissions",
  EISDIR: "it is a folder",
  ENOTDIR: "a part of the path is no folder",
};

async function reading<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    throw new InputError("file", `${path}: ${reasons[code] ?? messageOf(error)}`, { path, code });
  }
}

export const isFolder = async (path: string): Promise<boolean> =>
  (await reading(path, () => stat(path))).isDirectory();

/** Far above any tokenizer or config in use. */
const mostBytes = 256 * 2 ** 20;

export async function readBytes(path: string): Promise<Uint8Array> {
  await using file = await WeightFile.open(path);
  if (file.size > mostBytes)
    throw new InputError("file-size", `${path}: ${file.size} bytes, expected at most ${mostBytes}`);
  const bytes = new Uint8Array(file.size);
  await file.read(0, bytes);
  return bytes;
}

export const readText = async (path: string): Promise<string> =>
  new TextDecoder().decode(await readBytes(path));

export type Json = Readonly<Record<string, unknown>>;

/** The object that a text holds. Errors: InputError with `where`. */
export function parseObject(text: string, where: string): Json {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new InputError("json", `${where}: expected JSON: ${messageOf(error)}`);
  }
  if (!isObject(value)) throw new InputError("json", `${where}: expected a JSON object`);
  return value;
}

export const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export const readObject = async (path: string): Promise<Json> =>
  parseObject(await readText(path), path);
