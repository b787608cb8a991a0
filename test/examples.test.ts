import { execFile } from "node:child_process";
import { globSync } from "node:fs";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

describe("examples", () => {
  for (const file of globSync("examples/*.ts"))
    it(`${file} runs to its end and says something`, async () => {
      const { stdout } = await promisify(execFile)(process.execPath, [file]);
      expect(stdout.length).toBeGreaterThan(0);
    });
});
