import { execFileSync } from "node:child_process";
import { cpSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { TramontaneError } from "../../src/base/errors.ts";
import { prepare } from "../../src/load.ts";
import { openCheckpoint } from "../../src/weights/checkpoint.ts";
import {
  goldenPath,
  mebibyte,
  patience,
  refusal,
  safetensorsBytes,
  temporaryFolder,
  tooMuch,
  write,
} from "./files.ts";

const folder = temporaryFolder();

describe("a safetensors file is refused that", () => {
  const one = { dtype: "F32", shape: [2, 4], data_offsets: [0, 32] };
  const rows: [string, Buffer, RegExp][] = [
    ["has 7 bytes", Buffer.alloc(7), /got 7 bytes/],
    [
      "claims a header of 2^60 bytes",
      safetensorsBytes({ a: one }, 32, tooMuch),
      /header of at most/,
    ],
    [
      "claims a header longer than the file",
      safetensorsBytes({}, 0, 3),
      /header of at most 2 bytes, it says 3/,
    ],
    ["has a header that is no JSON", safetensorsBytes("{oops", 0), /expected JSON/],
    ["has a header that is no UTF-8", safetensorsBytes("{}", 0).fill(0xff, 8), /expected JSON/],
    ["has a header that is a list", safetensorsBytes("[]", 0), /expected a JSON object/],
    [
      "has brackets without end",
      safetensorsBytes("[".repeat(4 * mebibyte), 0),
      /more than 100 brackets/,
    ],
    [
      "has a header of 5 MB",
      safetensorsBytes("{}".padEnd(5 * mebibyte), 0),
      /header of at most 4194304 bytes/,
    ],
    ["has a tensor that is no object", safetensorsBytes({ a: 1 }, 0), /tensor a: expected shape/],
    [
      "has no shape",
      safetensorsBytes({ a: { ...one, shape: undefined } }, 32),
      /tensor a: expected shape/,
    ],
    [
      "has a negative size",
      safetensorsBytes({ a: { ...one, shape: [-2, -4] } }, 32),
      /tensor a: expected shape/,
    ],
    [
      "has a size of 0",
      safetensorsBytes({ a: { ...one, shape: [0, 4], data_offsets: [0, 0] } }, 0),
      /tensor a: expected sizes above 0/,
    ],
    [
      "has three offsets",
      safetensorsBytes({ a: { ...one, data_offsets: [0, 1, 2] } }, 32),
      /expected data_offsets/,
    ],
    [
      "has offsets that its shape does not fill",
      safetensorsBytes({ a: { ...one, shape: [2, 3] } }, 32),
      /needs 24 bytes, data_offsets give it 32/,
    ],
    [
      "has a product beyond numbers",
      safetensorsBytes({ a: { ...one, shape: [2 ** 52, 2 ** 52] } }, 32),
      /tensor a: its shape needs/,
    ],
    [
      "has a tensor outside",
      safetensorsBytes({ a: one }, 31),
      /tensor a: expected bytes .* is it truncated/,
    ],
    [
      "has tensors over each other",
      safetensorsBytes({ a: one, b: { ...one, data_offsets: [16, 48] } }, 48),
      /tensor b: shares bytes with a/,
    ],
    [
      "has bytes of no tensor",
      safetensorsBytes({ a: one }, 40),
      /its tensors have 32 bytes, the file 40/,
    ],
    [
      "has a tensor twice",
      safetensorsBytes(
        `{"a":${JSON.stringify(one)},"a":${JSON.stringify({ ...one, data_offsets: [32, 64] })}}`,
        64,
      ),
      /its tensors have 32 bytes, the file 64/,
    ],
    [
      "has integers",
      safetensorsBytes({ a: { ...one, dtype: "I32" } }, 32),
      /tensor a: expected the type F32, F16, BF16, got "I32"/,
    ],
    [
      "has a type that is a trap in JavaScript",
      safetensorsBytes({ a: { ...one, dtype: "__proto__" } }, 32),
      /got "__proto__"/,
    ],
  ];
  write(folder, "config.json", `{"model_type": "llama"}`);
  for (const [what, bytes, message] of rows)
    it(what, { timeout: patience }, async () => {
      const error = await refusal(write(folder, "hostile.safetensors", bytes));
      expect(error.message).toMatch(message);
      expect(error.message).toContain("hostile.safetensors");
    });
});

describe("a folder is refused", () => {
  const copy = (name: string, golden: string): string => {
    cpSync(goldenPath("mistral-tiny", golden), join(folder, name), { recursive: true });
    return join(folder, name);
  };

  it("of another architecture", async () => {
    const path = copy("architecture", "gqa");
    write(
      path,
      "config.json",
      `{"architectures": ["MixtralForCausalLM"], "model_type": "mixtral"}`,
    );
    expect((await refusal(path)).message).toMatch(
      /config\.json: architectures: .*MixtralForCausalLM/,
    );
  });

  it("whose config is no JSON, or not plausibly one", async () => {
    const path = copy("config", "gqa");
    write(path, "config.json", "{");
    expect((await refusal(path)).message).toMatch(/config\.json: expected JSON/);
    truncateSync(join(path, "config.json"), 5 * mebibyte);
    expect((await refusal(path)).message).toMatch(/config\.json: 5242880 bytes, expected at most/);
  });

  it("whose index points to another folder, or names a tensor that its shard lacks", async () => {
    const path = copy("index", "sharded-f16");
    const index = (map: unknown): string =>
      write(path, "model.safetensors.index.json", JSON.stringify({ weight_map: map }));
    index({ a: "../model-00001-of-00003.safetensors" });
    expect((await refusal(path)).message).toMatch(/a: expected a file of the same folder/);
    index({ a: "model-00001-of-00003.safetensors" });
    expect((await refusal(path)).message).toMatch(
      /00001-of-00003\.safetensors: the index says that a is in it/,
    );
    index([1]);
    expect((await refusal(path)).message).toMatch(/expected weight_map to name a file/);
  });

  it(
    "whose index names 40 000 tensors, in no more time than its bytes",
    { timeout: patience },
    async () => {
      const path = copy("long-index", "gqa");
      const names = Array.from({ length: 40_000 }, (_, at) => `t${at}`);
      const entries = names.map((name, at) => [
        name,
        { dtype: "F16", shape: [1], data_offsets: [2 * at, 2 * at + 2] },
      ]);
      write(path, "s", safetensorsBytes(Object.fromEntries(entries), 80_000));
      const map = Object.fromEntries([...names, "missing"].map((name) => [name, "s"]));
      write(path, "model.safetensors.index.json", JSON.stringify({ weight_map: map }));
      expect((await refusal(path)).message).toMatch(/the index says that missing is in it/);
    },
  );

  it("where Mistral's own config scales positions, or is missing", async () => {
    const path = copy("params", "consolidated");
    write(path, "params.json", `{"dim": 64, "yarn": {"factor": 4}}`);
    await using checkpoint = await openCheckpoint(path);
    expect(checkpoint.config.json.rope_scaling).toEqual({ rope_type: "yarn" });
    cpSync(join(path, "consolidated.safetensors"), join(folder, "consolidated.safetensors"));
    expect((await refusal(join(folder, "consolidated.safetensors"))).message).toMatch(
      /params\.json: there is no/,
    );
  });

  it.skipIf(process.platform === "win32")(
    "where a named pipe lies in place of a file, without waiting",
    { timeout: patience },
    async () => {
      execFileSync("mkfifo", [join(folder, "pipe.gguf")]);
      expect((await refusal(join(folder, "pipe.gguf"))).message).toMatch(
        /expected a file, got a folder or a device/,
      );
    },
  );
});

describe("a config with an object that is neither text nor number", () => {
  const odd = { toString: 1, valueOf: 1 };
  const files = [
    ["mistral-tiny/gqa", "config.json"],
    ["mistral-tiny/consolidated", "params.json"],
  ] as const;
  for (const [golden, file] of files)
    for (const key of Object.keys(readObject(golden, file)))
      it(`is opened or refused, never a crash: ${file}, ${key}`, async () => {
        const copy = join(folder, `${file}-${key}`);
        cpSync(goldenPath(golden), copy, { recursive: true });
        const value = key === "architectures" ? [odd] : odd;
        writeFileSync(
          join(copy, file),
          JSON.stringify({ ...readObject(golden, file), [key]: value }),
        );
        const error = await prepare(copy, { context: 64 }).then(
          (prepared) => prepared[Symbol.asyncDispose](),
          (thrown: unknown) => thrown,
        );
        expect(error === undefined || error instanceof TramontaneError, String(error)).toBe(true);
        const defaulted = await prepare(copy).then(
          (prepared) => prepared[Symbol.asyncDispose](),
          (thrown: unknown) => thrown,
        );
        expect(defaulted === undefined || defaulted instanceof TramontaneError).toBe(true);
      });
});

function readObject(golden: string, file: string): Record<string, unknown> {
  return JSON.parse(readFileSync(goldenPath(golden, file), "utf8")) as Record<string, unknown>;
}
