import { messageOf, refusal, type Refusal } from "../base/errors.ts";
import { isObject, type Json } from "../base/json.ts";
import { disk, openBlob, web, type Storage } from "./storage.ts";

/** A browser has no disk: there, every path is a URL. */
export const storageOf = (path: string): Storage =>
  disk && !/^(https?:\/\/|blob:)/i.test(path) ? disk : web;

/** A file that is read at positions, whole ranges or not at all. */
export interface WeightFile extends AsyncDisposable {
  readonly path: string;
  readonly size: number;
  /** Fills `into` from `offset` on, and returns it. Errors: InputError where the file ends before. */
  read<T extends Uint8Array>(offset: number, into: T): Promise<T>;
}

/** `path` names the blob in messages. Errors: InputError where the file is not there, not readable, or no file. */
export async function openFile(path: string, blob?: Blob): Promise<WeightFile> {
  const file = blob ? openBlob(blob) : await storageOf(path).open(path);
  async function read<T extends Uint8Array>(offset: number, into: T): Promise<T> {
    for (let at = 0; at < into.length;) {
      const position = offset + at;
      const bytes = await file.read(position, into.subarray(at));
      if (bytes === 0) {
        const length = into.length - at;
        const end = `the file ends at byte ${position}, ${length} bytes were expected there`;
        refusal("file-end", path)(`${end}; fetch it again`);
      }
      at += bytes;
    }
    return into;
  }
  return { path, size: file.size, read, [Symbol.asyncDispose]: file.close };
}

/** Configs, indices and headers are far smaller. */
export const mostJsonBytes: number = 4 * 2 ** 20;
/** The largest published tokenizers have 35 MB. */
export const mostTokenizerBytes: number = 64 * 2 ** 20;

export async function readBytes(path: string, most: number = mostJsonBytes): Promise<Uint8Array> {
  await using file = await openFile(path);
  const { size, read } = file;
  if (size > most) refusal("file-size", path)(`${size} bytes, expected at most ${most}`);
  return await read(0, new Uint8Array(size));
}

export const readObject = async (path: string, most?: number): Promise<Json> =>
  parseObject(await readBytes(path, most), path);

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

/** How many brackets are open at most at one place. */
function depthOf(bytes: Uint8Array): number {
  let [depth, most, quoted] = [0, 0, false];
  for (let at = 0; at < bytes.length; at++) {
    const character = String.fromCharCode(bytes[at]);
    if (quoted && character === "\\") at++;
    else if (character === '"') quoted = !quoted;
    else if (quoted) continue;
    else if (character === "[" || character === "{") most = Math.max(most, ++depth);
    else if (character === "]" || character === "}") depth--;
  }
  return most;
}
