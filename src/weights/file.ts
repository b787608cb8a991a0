import { constants } from "node:fs";
import { open, readdir, stat, type FileHandle } from "node:fs/promises";
import { messageOf, refusal, type Refusal } from "../base/errors.ts";

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
    return refusal("file", path)("expected a file, got a folder or a device");
  }

  /** Fills `into` from `offset` on, and returns it. Errors: InputError where the file ends before. */
  async read<T extends Uint8Array>(offset: number, into: T): Promise<T> {
    for (let at = 0; at < into.length;) {
      const length = into.length - at;
      const position = offset + at;
      const { bytesRead } = await reading(this.path, () =>
        this.#handle.read(into, at, Math.min(length, mostAtOnce), position),
      );
      if (bytesRead === 0) {
        const end = `the file ends at byte ${position}, ${length} bytes were expected there`;
        refusal("file-end", this.path)(`${end}; fetch it again`);
      }
      at += bytesRead;
    }
    return into;
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
    return refusal("file", path, { path, code })(reasons[code] ?? messageOf(error));
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
  const { size } = file;
  if (size > most) refusal("file-size", path)(`${size} bytes, expected at most ${most}`);
  return await file.read(0, new Uint8Array(size));
}

export const readObject = async (path: string, most?: number): Promise<Json> =>
  parseObject(await readBytes(path, most), path);

export type Json = Readonly<Record<string, unknown>>;

export const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** JSON.parse takes 60 bytes of memory for each open bracket. */
const mostDepth = 100;

/** The object that a text in UTF-8 spells. Errors: InputError with `where`. */
export function parseObject(bytes: Uint8Array, where: string): Json {
  const fail: Refusal = refusal("json", where);
  if (depthOf(bytes) > mostDepth)
    fail(`expected JSON, got more than ${mostDepth} brackets in one another`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    const problem = messageOf(error).slice(0, 200);
    fail(`expected JSON: ${problem}; the file is damaged: fetch it again`);
  }
  return isObject(value) ? value : fail("expected a JSON object");
}

const [quote, backslash, openArray, closeArray, openObject, closeObject] = Buffer.from('"\\[]{}');

/** How many brackets are open at most at one place. */
function depthOf(bytes: Uint8Array): number {
  let [depth, most, quoted] = [0, 0, false];
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (quoted && byte === backslash) at++;
    else if (byte === quote) quoted = !quoted;
    else if (quoted) continue;
    else if (byte === openArray || byte === openObject) most = Math.max(most, ++depth);
    else if (byte === closeArray || byte === closeObject) depth--;
  }
  return most;
}
