import { open, rename, rm, stat } from "node:fs/promises";
import { endianness } from "node:os";
import { InputError, messageOf } from "../base/errors.ts";

type Write = (values: Float32Array) => Promise<void>;

/**
 * Gives `use` a function that appends f32 values, little-endian, to a file, which is there only when `use` has ended well: it
 * grows under another name beside its place. Without a path nothing is written. Errors: InputError where it cannot be created.
 */
export async function withLogitsFile<T>(
  path: string | undefined,
  use: (write: Write) => Promise<T>,
): Promise<T> {
  if (path === undefined) return await use(async () => {});
  const partial = `${path}.${process.pid}.partial`;
  const refuse = (why: string, cause?: unknown): never => {
    const message = `--logits ${path}: cannot be written: ${why}`;
    throw new InputError("unwritable", message, {}, { cause });
  };
  const known = await stat(path).catch(() => undefined);
  if (known !== undefined && !known.isFile()) refuse("it is not a file");
  const file = await open(partial, "wx").catch((error) => refuse(messageOf(error), error));
  try {
    const result = await use(async (values) => {
      const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
      await file.writeFile(endianness() === "LE" ? bytes : Buffer.from(bytes).swap32());
    });
    await file.close();
    await rename(partial, path);
    return result;
  } finally {
    await file.close();
    await rm(partial, { force: true });
  }
}
