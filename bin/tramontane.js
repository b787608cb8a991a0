#!/usr/bin/env node
// In a checkout the sources run as they are; the published package carries them compiled.
import { existsSync } from "node:fs";
import module from "node:module";

const source = new URL("../src/cli/main.ts", import.meta.url);
const built = new URL("../dist/cli/main.js", import.meta.url);
const [main, needed] = existsSync(source) ? [source, 24] : [built, 22];
if (Number.parseInt(process.versions.node) < needed) {
  console.error(`error: tramontane needs Node ${needed} or later, this is ${process.version}`);
  process.exit(1);
}
module.enableCompileCache?.(); // sources are parsed once, not at every start: saves 0.5 s
await import(main.href);
