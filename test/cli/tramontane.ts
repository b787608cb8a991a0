import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";

const root = new URL("../../", import.meta.url).pathname;
const node = join(root, "node_modules/.bin/node");
export const golden = (path: string): string => join(root, "test/goldens", path);

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts the command as users do, on the Node that the package pins. */
export function start(args: readonly string[]): {
  readonly child: ChildProcess;
  readonly finished: Promise<Finished>;
} {
  const child = spawn(node, [join(root, "bin/tramontane.js"), ...args]);
  const code = new Promise<number | null>((resolve) => child.once("close", resolve));
  const finished = Promise.all([code, text(child.stdout), text(child.stderr)]).then(
    ([code, stdout, stderr]) => ({ code, stdout, stderr }),
  );
  return { child, finished };
}

export async function tramontane(args: readonly string[], input = ""): Promise<Finished> {
  const { child, finished } = start(args);
  child.stdin?.end(input);
  return await finished;
}

/** What a command that must succeed printed as JSON: the last line. */
export async function json<T>(args: readonly string[], input = ""): Promise<T> {
  const { code, stdout, stderr } = await tramontane(args, input);
  if (code !== 0) throw new Error(`exit code ${code}: ${stderr}`);
  return JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as T;
}

/** A folder that goes with the test. */
export class TemporaryFolder implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), "tramontane-"));
  file(name: string): string {
    return join(this.path, name);
  }
  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
}
