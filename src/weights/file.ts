import { constants } from "node:fs";
import { open, readdir, stat, type FileHandle } from "node:fs/promises";
import { InputError, messageOf } from "../base/errors.ts";
import { parseObject, type Json } from "./json.ts";

/** Without O_NONBLOCK the open of a named pipe waits for somebody to write to it. Windows has no such flag. */
const openFlags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);
/** Node counts the bytes of a read in 31 bits. */
const mostAtOnce = 2 ** 30;

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
    const handle = await reading(path, () => open(path, openFlags));
    const info = await handle.stat();
    if (info.isFile()) return new WeightFile(path, info.size, handle);
    await handle.close();
    throw new InputError("file", `${path}: expected a file, got a folder or a device`);
  }

  /** Fills `into` from `offset` on. Errors: InputError where the file ends before. */
  async read(offset: number, into: Uint8Array): Promise<void> {
    for (let at = 0; at < into.length;) {
      const { bytesRead } = await reading(this.path, () =>
        this.#handle.read(into, at, Math.min(into.length - at, mostAtOnce), offset + at),
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
  ENOENT: "there is no such file or folder; check the name, or fetch it",
  EACCES: "it may not be read; check its permissions",
  EBADF: "the checkpoint has been closed",
  EMFILE: "too many files are open; raise the limit (ulimit -n)",
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

/** Names in a folder, sorted. */
export const namesIn = async (path: string): Promise<readonly string[]> =>
  (await reading(path, () => readdir(path))).sort();

/** Configs, indices and headers are far smaller. */
export const mostJsonBytes: number = 4 * 2 ** 20;
/** The largest published tokenizers have 35 MB. */
export const mostTokenizerBytes: number = 64 * 2 ** 20;

export async function readBytes(path: string, most: number = mostJsonBytes): Promise<Uint8Array> {
  await using file = await WeightFile.open(path);
  if (file.size > most)
    throw new InputError("file-size", `${path}: ${file.size} bytes, expected at most ${most}`);
  const bytes = new Uint8Array(file.size);
  await file.read(0, bytes);
  return bytes;
}

export const readText = async (path: string): Promise<string> =>
  new TextDecoder().decode(await readBytes(path));

export const readObject = async (path: string, most?: number): Promise<Json> =>
  parseObject(await readBytes(path, most), path);
