import { open, rename, rm, stat, type FileHandle } from "node:fs/promises";
import { endianness } from "node:os";
import { InputError, messageOf } from "../base/errors.ts";

/** A file of f32 that is there only when it is whole: it grows under another name beside its place. */
export class LogitsFile implements AsyncDisposable {
  readonly #path: string;
  readonly #partial: string;
  readonly #file: FileHandle;

  private constructor(path: string, partial: string, file: FileHandle) {
    this.#path = path;
    this.#partial = partial;
    this.#file = file;
  }

  /** Errors: InputError where the file cannot be written. */
  static async create(path: string): Promise<LogitsFile> {
    const partial = `${path}.${process.pid}.partial`;
    const refused = (why: string, cause?: unknown): InputError =>
      new InputError("unwritable", `--logits ${path}: cannot be written: ${why}`, {}, { cause });
    const known = await stat(path).catch(() => undefined);
    if (known !== undefined && !known.isFile()) throw refused("it is not a file");
    try {
      return new LogitsFile(path, partial, await open(partial, "wx"));
    } catch (error) {
      throw refused(messageOf(error), error);
    }
  }

  /** Appends values, little-endian. */
  async write(values: Float32Array): Promise<void> {
    const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
    await this.#file.writeFile(endianness() === "LE" ? bytes : Buffer.from(bytes).swap32());
  }

  /** Puts the file in its place. */
  async finish(): Promise<void> {
    await this.#file.close();
    await rename(this.#partial, this.#path);
  }

  /** Leaves nothing of a file that was not finished. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
    await rm(this.#partial, { force: true });
  }
}
