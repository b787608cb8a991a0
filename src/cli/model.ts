import { createReadStream, existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { InputError, messageOf } from "../base/errors.ts";
import type { Engine, LoadOptions, Progress } from "../index.ts";

const bundled = fileURLToPath(new URL("../../models/smollm2-135m-instruct", import.meta.url));

/** The model that was named, else the bundled one. */
export function modelPath(model: string | undefined): string {
  if (model !== undefined) return model;
  if (existsSync(bundled)) return bundled;
  const problem = "no MODEL was given, and this installation has no bundled one";
  throw new InputError("no-model", `${problem}; give a folder or a file (GGUF or safetensors)`);
}

/** Arguments `[MODEL] TEXT`, told apart by their number. */
export function textAndModel(args: readonly string[], command: Command): [string, string?] {
  const name = command.usage().split(" ").at(-1);
  const advice = args.length > 2 ? `; put ${name} in quotes` : "";
  if (args.length === 0 || args.length > 2)
    command.error(`expected [MODEL] ${name}, got ${args.length} arguments${advice}`);
  return args.toReversed() as [string, string?];
}

/** Rethrows what the system said of a file, in the words of what was being done. */
export const fileError =
  (code: string, problem: string) =>
  (cause: unknown): never => {
    throw new InputError(code, `${problem}: ${messageOf(cause)}`, {}, { cause });
  };

/** Far more than any context holds; a device such as /dev/zero has no end. */
const mostTextBytes = 2 ** 26;

/** The text of a file, or of stdin for `-`. Errors: InputError with the file's name. */
export async function readText(path: string): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  const read = async (): Promise<void> => {
    for await (const part of path === "-" ? process.stdin : createReadStream(path)) {
      if ((bytes += part.length) > mostTextBytes)
        throw new Error(`expected at most ${mostTextBytes} bytes of text`);
      parts.push(part);
    }
  };
  await read().catch(fileError("unreadable", `${path}: cannot be read`));
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.concat(parts));
  } catch {
    throw new InputError("not-text", `${path}: expected text in UTF-8`);
  }
}

/** A bar on stderr while weights are loaded, on a terminal only. */
export async function loadingBar(): Promise<Disposable & { show(progress: Progress): void }> {
  if (!process.stderr.isTTY) return { show() {}, [Symbol.dispose]() {} };
  const { default: cliProgress } = await import("cli-progress");
  const format = "loading {bar} {value} of {total} MiB";
  const look = { format, clearOnComplete: true, hideCursor: true, barsize: 30 };
  const bar = new cliProgress.SingleBar({ ...look, stream: process.stderr });
  const mebibytes = (bytes: number): number => Math.round(bytes / 2 ** 20);
  return {
    show(progress) {
      if (progress.phase === "ready") bar.stop();
      if (progress.phase !== "weights") return;
      if (!bar.isActive) bar.start(mebibytes(progress.totalBytes), 0);
      bar.update(mebibytes(progress.loadedBytes));
    },
    [Symbol.dispose]: () => bar.stop(),
  };
}

/** Loads a model. */
export async function openEngine(model: string | undefined, options: LoadOptions): Promise<Engine> {
  const path = modelPath(model);
  using bar = await loadingBar();
  const { load } = await import("../load.ts");
  return await load(path, { ...options, onProgress: bar.show });
}
