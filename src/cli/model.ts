import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { buffer } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import cliProgress from "cli-progress";
import { InputError, messageOf } from "../base/errors.ts";
import { load, type Engine, type LoadOptions, type Progress } from "../index.ts";
import { loadingOf, type LoadFlags } from "./options.ts";
import { notice, UsageError, type Shell } from "./shell.ts";

const bundled = fileURLToPath(new URL("../../models/smollm2-135m-instruct", import.meta.url));

/** The model that was named, else the bundled one. */
export function modelPath(model: string | undefined): string {
  if (model !== undefined) return model;
  if (existsSync(bundled)) return bundled;
  throw new InputError(
    "no-model",
    "no MODEL was given, and this installation has no bundled one; give a folder or a file (GGUF or safetensors)",
  );
}

/** `[MODEL] LAST`, told apart by their number. */
export function modelAnd(
  last: string,
  args: readonly string[],
  command: string,
): [string | undefined, string] {
  if (args.length === 1) return [undefined, args[0]];
  if (args.length === 2) return [args[0], args[1]];
  throw new UsageError(
    `expected [MODEL] ${last}, got ${args.length} arguments${args.length > 2 ? `; put ${last} in quotes` : ""}; see tramontane ${command} --help`,
  );
}

/** The text of a file, or of stdin for `-`. Errors: InputError with the file's name. */
export async function readText(path: string): Promise<string> {
  const bytes = await readBytes(path);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new InputError("not-text", `${path}: expected text in UTF-8`);
  }
}

async function readBytes(path: string): Promise<Uint8Array> {
  try {
    return path === "-" ? await buffer(process.stdin) : await readFile(path);
  } catch (error) {
    throw new InputError(
      "unreadable",
      `${path}: cannot be read: ${messageOf(error)}`,
      {},
      { cause: error },
    );
  }
}

/** A bar on stderr while weights are loaded, on a terminal only. */
export class LoadingBar implements Disposable {
  #bar: cliProgress.SingleBar | undefined;

  show(progress: Progress): void {
    if (progress.phase !== "weights" || !process.stderr.isTTY) return;
    const mebibytes = (bytes: number): number => Math.round(bytes / 2 ** 20);
    const [loaded, total] = [mebibytes(progress.loadedBytes), mebibytes(progress.totalBytes)];
    this.#bar ??= startBar(total);
    this.#bar.update(loaded);
  }

  [Symbol.dispose](): void {
    this.#bar?.stop();
  }
}

function startBar(total: number): cliProgress.SingleBar {
  const bar = new cliProgress.SingleBar({
    format: "loading {bar} {value} of {total} MiB",
    stream: process.stderr,
    clearOnComplete: true,
    hideCursor: true,
    barsize: 30,
  });
  bar.start(total, 0);
  return bar;
}

/** Options of `load` from flags, with notices and Ctrl-C. */
export const loadOptionsOf = (flags: LoadFlags, shell: Shell): LoadOptions => ({
  ...loadingOf(flags),
  signal: shell.signal,
  onNotice: (text) => notice(text, shell),
});

/** Loads a model and tells how long that took. */
export async function openEngine(
  model: string | undefined,
  flags: LoadFlags,
  shell: Shell,
): Promise<{ engine: Engine; loadMs: number }> {
  const start = performance.now();
  using bar = new LoadingBar();
  const options = {
    ...loadOptionsOf(flags, shell),
    onProgress: (progress: Progress) => bar.show(progress),
  };
  const engine = await load(modelPath(model), options);
  return { engine, loadMs: performance.now() - start };
}
