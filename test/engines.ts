/**
 * Checks the committed table of logit hashes on other JavaScript engines: Node with V8's wasm revectorisation, Deno, Bun.
 * They are fetched by npx, so this is apart from `npm test`: `npm run test:engines`.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

const program = "test/golden/hashes.ts";
const engines = {
  Node: [process.execPath, program],
  "Node, revectorised": [process.execPath, "--experimental-wasm-revectorize", program],
  Deno: ["npx", "--yes", "deno@2.9.6", "run", "--allow-all", program],
  Bun: ["npx", "--yes", "bun@1.4.5", program],
} as const;

const expected: unknown = JSON.parse(readFileSync("test/goldens/logit-hashes.json", "utf8"));
for (const [name, [command, ...args]] of Object.entries(engines)) {
  const { stdout, stderr, status } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${name}: exit code ${status}: ${stderr}`);
  const same = JSON.stringify(JSON.parse(stdout)) === JSON.stringify(expected);
  console.log(`${name}: ${same ? "the same bits" : "OTHER BITS"}`);
  if (!same) process.exitCode = 1;
}
