import { messageOf, refusal } from "../base/errors.ts";
import { nodeModule } from "../base/node.ts";

/** An open file, wherever it is. */
export interface OpenFile {
  readonly size: number;
  /** Fills the beginning of `into` from `position` on; how many bytes, 0 where the file ends. */
  read(position: number, into: Uint8Array): Promise<number>;
  close(): Promise<void>;
}

/** Where files are by path: a disk, or servers. Errors: InputError with the path. */
export interface Storage {
  /** Whether it knows what is in a folder; else `namesIn` gives none. */
  readonly lists: boolean;
  dirname(path: string): string;
  basename(path: string): string;
  join(folder: string, name: string): string;
  isFolder(path: string): Promise<boolean>;
  /** Sorted. */
  namesIn(folder: string): Promise<readonly string[]>;
  open(path: string): Promise<OpenFile>;
}

/** Node counts the bytes of a read in 31 bits. */
const mostAtOnce = 2 ** 30;

function createDisk(node: NonNullable<typeof nodeModule>): Storage {
  const { constants } = node("node:fs");
  const { open, readdir, stat } = node("node:fs/promises");
  const { basename, dirname, join } = node("node:path");
  /** Without O_NONBLOCK the open of a named pipe waits for somebody to write to it. Windows has no such flag. */
  const flags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);
  return {
    lists: true,
    basename,
    dirname,
    join,
    isFolder: async (path) => (await stat(path).catch(refuse(path))).isDirectory(),
    namesIn: async (folder) => (await readdir(folder).catch(refuse(folder))).sort(),
    async open(path) {
      const handle = await open(path, flags).catch(refuse(path));
      const info = await handle.stat();
      if (!info.isFile()) {
        await handle.close();
        refusal("file", path)("expected a file, got a folder or a device");
      }
      const read = async (position: number, into: Uint8Array): Promise<number> => {
        const length = Math.min(into.length, mostAtOnce);
        return (await handle.read(into, 0, length, position).catch(refuse(path))).bytesRead;
      };
      return { size: info.size, read, close: () => handle.close() };
    },
  };
}

/** Undefined in a browser. */
export const disk: Storage | undefined = nodeModule && createDisk(nodeModule);

/** What a system error means to the reader. */
const reasons: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or folder; check the name, or fetch it",
  EACCES: "it may not be read; check its permissions",
  EBADF: "the checkpoint has been closed",
  EMFILE: "too many files are open; raise the limit (ulimit -n)",
  EISDIR: "it is a folder",
  ENOTDIR: "a part of the path is no folder",
};

/** Rethrows what the system said of a file. */
function refuse(path: string) {
  return (error: unknown): never => {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    return refusal("file", path, { path, code })(reasons[code] ?? messageOf(error));
  };
}

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
