import { describe, expect, it } from "vitest";
import { goldenPath, readJson } from "./cases.ts";
import { logitHashes } from "./hashes.ts";

describe("the committed table of logit hashes", () => {
  it("holds on this engine and machine", async () => {
    expect(await logitHashes()).toEqual(readJson(goldenPath("logit-hashes.json")));
  });
});
