#!/usr/bin/env node
// In a checkout the sources run as they are; the published package carries them compiled.
import { existsSync } from "node:fs";

const source = new URL("../src/cli/main.ts", import.meta.url);
const built = new URL("../dist/cli/main.js", import.meta.url);
await import(existsSync(source) ? source.href : built.href);
