import { messageOf, refusal } from "../base/errors.ts";
import type { OpenFile, Storage } from "./storage.ts";

/** What is held of a file whose server gives all of it or nothing. */
const mostWhole = 2 ** 30;
const withoutQuery = (path: string): string => path.replace(/[?#].*/, "");

/** Servers: a path is a URL, and parts of files are asked for (HTTP Range). */
export const web: Storage = {
  lists: false,
  dirname: (path) => withoutQuery(path).replace(/[^/:]*$/, ""),
  basename: (path) => withoutQuery(path).replace(/.*[/:]/, ""),
  join: (folder, name) => folder + name,
  isFolder: async () => false,
  namesIn: async () => [],
  async open(path) {
    const first = await ask(path, 0, 1);
    if (first.status === 200)
      return openBlob(new Blob(await Array.fromAsync(partsOf(path, first, mostWhole))));
    await first.body?.cancel();
    const range = first.headers.get("content-range"); // bytes 0-0/SIZE, or bytes */0
    const [, size] = /\/(\d+)$/.exec(range ?? "") ?? [];
    if (size === undefined)
      refusal("file", path)("the server must tell the size in Content-Range, which CORS must show");
    const read = async (position: number, into: Uint8Array): Promise<number> => {
      const response = await ask(path, position, into.length);
      if (response.status === 416) return 0;
      let at = 0;
      for await (const part of partsOf(path, response, into.length)) {
        into.set(part, at);
        at += part.length;
      }
      return at;
    };
    return { size: Number(size), read, close: async () => {} };
  },
};

/** A file that a page was given. */
export const openBlob = (blob: Blob): OpenFile => ({
  size: blob.size,
  async read(position, into) {
    const bytes = await blob.slice(position, position + into.length).arrayBuffer();
    into.set(new Uint8Array(bytes));
    return bytes.byteLength;
  },
  close: async () => {},
});

/** The answer is 206 with a part, 200 with the whole file, or 416 where the file ends before. */
async function ask(path: string, position: number, length: number): Promise<Response> {
  const headers = { Range: `bytes=${position}-${position + length - 1}` };
  const response = await fetch(path, { headers }).catch((error: unknown) => {
    const advice = "is the server up, and does it allow this page (CORS)?";
    return refusal("file", path)(`it cannot be fetched (${messageOf(error)}); ${advice}`);
  });
  const { status, statusText } = response;
  if ([200, 206, 416].includes(status)) return response;
  const fail = refusal("file", path, { path, status });
  return fail(`the server answers ${status} ${statusText}; check the URL`);
}

async function* partsOf(path: string, { body }: Response, most: number) {
  let bytes = 0;
  try {
    for await (const part of body ?? []) {
      if ((bytes += part.length) > most) throw new Error(`more than the ${most} bytes that may be`);
      yield part;
    }
  } catch (error) {
    refusal("file", path)(`the transfer broke off: ${messageOf(error)}`);
  }
}
