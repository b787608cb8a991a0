import { messageOf, refusal } from "../base/errors.ts";
import { nodeModule } from "../base/node.ts";
import type { Storage } from "./storage.ts";

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
