import { cpSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { InputError } from "../../src/base/errors.ts";
import type { WeightSource } from "../../src/devices/device.ts";
import { widen } from "../../src/devices/interpreter.ts";
import { MistralConfig } from "../../src/models/mistral/config.ts";
import { MistralForCausalLM } from "../../src/models/mistral/model.ts";
import { bindWeights } from "../../src/weights/bind.ts";
import { openCheckpoint, type Checkpoint } from "../../src/weights/checkpoint.ts";
import {
  array,
  ggufBytes,
  goldenPath,
  llamaKeys,
  smallGguf,
  string,
  strings,
  temporaryFolder,
  uint,
  write,
} from "./files.ts";

const folder = temporaryFolder();
const tiny = (name: string): string => goldenPath("mistral-tiny", name);
const bundled = new URL("../../models/smollm2-135m-instruct", import.meta.url).pathname;

function bind(checkpoint: Checkpoint): WeightSource[] {
  const { json, where } = checkpoint.config;
  const overrides = checkpoint.kind === "consolidated" ? { context_window_size: 64 } : {};
  const config = MistralConfig.parse(json, { where, overrides });
  return bindWeights(checkpoint, new MistralForCausalLM(config), {
    headDim: config.head_dim,
  });
}

async function valuesOf(path: string): Promise<Map<string, Float32Array>> {
  await using checkpoint = await openCheckpoint(path);
  const values = new Map<string, Float32Array>();
  for (const source of bind(checkpoint)) values.set(source.name, await widen(source));
  return values;
}

/** Path, kind, and hidden, heads, kv heads, head dim, layers, vocabulary, tied head. */
const layouts: [string, Checkpoint["kind"], string][] = [
  [tiny("gqa"), "safetensors", "64 4 2 16 3 320 false"],
  [tiny("gqa/model.safetensors"), "safetensors", "64 4 2 16 3 320 false"],
  [tiny("mha-bf16"), "safetensors", "64 4 4 16 2 512 false"],
  [tiny("explicit-head-dim"), "safetensors", "96 4 1 32 2 320 false"],
  [tiny("tied"), "safetensors", "64 4 2 16 2 320 true"],
  [tiny("odd-sizes"), "safetensors", "72 3 3 24 2 333 false"],
  [tiny("sharded-f16"), "safetensors", "64 4 2 16 3 320 false"],
  [tiny("consolidated"), "consolidated", "64 4 2 16 3 320 false"],
  ...["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"].map(
    (type): [string, "gguf", string] => [
      tiny(`gguf/model-${type}.gguf`),
      "gguf",
      "64 4 2 16 2 320 false",
    ],
  ),
  [tiny("gguf/split-q8_0-00001-of-00003.gguf"), "gguf", "64 4 2 16 2 320 false"],
  [tiny("gguf/version2-q4_0.gguf"), "gguf", "64 4 2 16 2 320 false"],
  [tiny("gguf/tied-q8_0.gguf"), "gguf", "64 4 2 16 2 320 true"],
  ...["q2_k", "q3_k_s", "q3_k_m", "q4_k_s", "q4_k_m", "q5_k_m", "q6_k", "iq4_nl", "iq4_xs"].map(
    (mix): [string, "gguf", string] => [
      goldenPath(`kquants-tiny/model-${mix}.gguf`),
      "gguf",
      "256 8 2 32 2 512 false",
    ],
  ),
  [bundled, "gguf", "576 9 3 64 30 49152 true"],
];

describe("every layout of a checkpoint", () => {
  for (const [path, kind, sizes] of layouts)
    it(`opens and binds: ${path.split("/").slice(-2).join("/")}`, async () => {
      await using checkpoint = await openCheckpoint(path);
      const { where, json } = checkpoint.config;
      const overrides = kind === "consolidated" ? { context_window_size: 64 } : {};
      const config = MistralConfig.parse(json, { where, overrides });
      const found = [
        config.hidden_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
        config.num_hidden_layers,
        config.vocab_size,
        config.tie_word_embeddings,
      ];
      expect([checkpoint.kind, found.join(" ")]).toEqual([kind, sizes]);
      const module = new MistralForCausalLM(config);
      const sources = bind(checkpoint);
      expect(sources.map(({ name }) => name)).toEqual([...module.namedParameters().keys()]);
      for (const { segments } of sources)
        for (const { rows, columns } of segments) expect(rows * columns).toBeGreaterThan(0);
    });

  it("honours a sliding window in the metadata of GGUF", async () => {
    await using checkpoint = await openCheckpoint(tiny("gguf-sliding-window/model-f32.gguf"));
    expect(MistralConfig.parse(checkpoint.config.json).sliding_window_size).toBe(16);
  });

  it("has the same weights in Mistral's own layout, whose heads are interleaved, as in Hugging Face's", async () => {
    expect(await valuesOf(tiny("consolidated"))).toEqual(await valuesOf(tiny("gqa")));
  });

  it("has the same weights in one file as in three, whichever of them is named", async () => {
    const whole = await valuesOf(tiny("gguf/model-q8_0.gguf"));
    for (const part of [1, 3])
      expect(await valuesOf(tiny(`gguf/split-q8_0-0000${part}-of-00003.gguf`))).toEqual(whole);
  });

  it("counts a 1-d weight as one row, and reads it into shared memory", async () => {
    await using checkpoint = await openCheckpoint(tiny("gqa"));
    const norm = bind(checkpoint).find(({ name }) => name === "model.norm.weight")?.segments[0];
    expect([norm?.rows, norm?.columns]).toEqual([1, 64]);
    const [own, shared] = [new Uint8Array(256), new Uint8Array(new SharedArrayBuffer(256))];
    await norm?.read(0, 1, own);
    await norm?.read(0, 1, shared);
    expect([...shared]).toEqual([...own]);
    expect(new Set(own).size).toBeGreaterThan(1);
  });

  it("reads rows where they lie", async () => {
    await using checkpoint = await openCheckpoint(tiny("gqa"));
    const tensor = checkpoint.tensors.find(({ name }) => name === "lm_head.weight");
    const all = new Uint8Array(320 * 256);
    await tensor?.read(0, 320, all);
    const some = new Uint8Array(3 * 256);
    await tensor?.read(317, 3, some);
    expect(some).toEqual(all.subarray(317 * 256));
    await expect(tensor?.read(318, 3, some)).rejects.toThrow("rows 318 to 321 of 320");
  });
});

describe("what lies beside the weights", () => {
  it("comes from the metadata of a GGUF file", async () => {
    await using checkpoint = await openCheckpoint(bundled);
    expect(checkpoint.specialIds).toEqual({ bos: 1, eos: [2] });
    expect(checkpoint.chatTemplate).toMatch(/^\{% for message in messages %\}/);
    expect(checkpoint.tokenizer().pieces).toHaveLength(49_152);
  });

  it("keeps a byte order mark in a token, which a TextDecoder drops", async () => {
    const keys = [
      ...llamaKeys,
      ["tokenizer.ggml.model", string("llama")] as const,
      ["tokenizer.ggml.tokens", strings(["\ufeff", "é"])] as const,
      ["tokenizer.ggml.scores", array(6, 2, Buffer.alloc(8))] as const,
    ];
    const path = write(folder, "bom.gguf", ggufBytes({ ...smallGguf, keys }));
    await using checkpoint = await openCheckpoint(path);
    expect(checkpoint.tokenizer().pieces).toEqual(["\ufeff", "é"]);
  });

  it("keeps a chat template of 3 MB whole", async () => {
    const template = "{{ x }}".repeat(400_000);
    const keys = [
      ...llamaKeys,
      ["tokenizer.chat_template", string(template)] as const,
      ["tokenizer.ggml.eot_token_id", uint(7)] as const,
    ];
    await using checkpoint = await openCheckpoint(
      write(folder, "template.gguf", ggufBytes({ ...smallGguf, keys })),
    );
    expect(checkpoint.chatTemplate === template).toBe(true);
    expect(checkpoint.specialIds.eos).toEqual([7]);
  });

  it("is read from the files of a folder, generation_config.json before config.json", async () => {
    const model = join(folder, "beside");
    cpSync(tiny("gqa"), model, { recursive: true });
    await using bare = await openCheckpoint(model);
    expect([bare.chatTemplate, bare.specialIds]).toEqual([undefined, { bos: 1, eos: [2] }]);
    expect(bare.tokenizer).toThrow(InputError);
    expect(bare.tokenizer).toThrow(
      `put one of these beside it: ${join(model, "tokenizer.json")}, `,
    );
    write(model, "generation_config.json", `{"bos_token_id": 3, "eos_token_id": [4, 5]}`);
    write(
      model,
      "tokenizer_config.json",
      `{"chat_template": [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]}`,
    );
    write(model, "tekken.json", `{"vocab": []}`);
    await using tekken = await openCheckpoint(model);
    expect([tekken.chatTemplate, tekken.specialIds]).toEqual(["d", { bos: 3, eos: [4, 5] }]);
    expect(tekken.tokenizer).toThrow("tekken.json: config: expected an object, got nothing");
    write(model, "tokenizer.model.v3", "sentences");
    write(model, "chat_template.jinja", "jinja");
    await using pieces = await openCheckpoint(model);
    expect(pieces.chatTemplate).toBe("jinja");
    expect(pieces.tokenizer).toThrow("tokenizer.model: ");
    write(model, "tokenizer.json", `{"model": {}}`);
    await using json = await openCheckpoint(model);
    expect(json.tokenizer).toThrow("tokenizer.json: model.vocab: expected an object, got nothing");
  });

  it("is looked for beside a GGUF file that has no tokenizer", async () => {
    const model = join(folder, "gguf-beside");
    mkdirSync(model);
    write(model, "model.gguf", ggufBytes(smallGguf));
    write(model, "tekken.json", "{}");
    await using checkpoint = await openCheckpoint(model);
    expect(checkpoint.tokenizer).toThrow("tekken.json: config");
  });
});

describe("a folder or name that is not clear", () => {
  const inFolder = (name: string, files: readonly string[]): string => {
    const path = join(folder, name);
    mkdirSync(path);
    for (const file of files) symlinkSync(tiny(file), join(path, file.split("/").at(-1) ?? ""));
    return path;
  };
  const rejected = (path: string, message: RegExp): Promise<void> =>
    expect(openCheckpoint(path)).rejects.toThrow(message);

  it("is refused with what a checkpoint looks like", async () => {
    await rejected(join(folder, "nowhere"), /nowhere: there is no such file/);
    await rejected(
      inFolder("empty", []),
      /empty: no checkpoint here; expected a \.gguf file, model\.safetensors/,
    );
    await rejected(write(folder, "model.bin", "x"), /expected a \.gguf or \.safetensors file/);
  });

  it("is refused with the names to choose from", async () => {
    const two = inFolder("two", ["gguf/model-q4_0.gguf", "gguf/model-q8_0.gguf"]);
    await rejected(two, /model-q4_0\.gguf, model-q8_0\.gguf/);
  });

  it("is refused with the name of the missing part", async () => {
    const part = (number: number): string => `gguf/split-q8_0-0000${number}-of-00003.gguf`;
    await rejected(
      inFolder("without-2", [part(1), part(3)]),
      /split-q8_0-00002-of-00003\.gguf: there is no such file/,
    );
    await rejected(
      inFolder("without-1", [part(2), part(3)]),
      /split-q8_0-00001-of-00003\.gguf: there is no such file/,
    );
    const shards = [
      "sharded-f16/config.json",
      "sharded-f16/model.safetensors.index.json",
      "sharded-f16/model-00001-of-00003.safetensors",
    ];
    await rejected(
      inFolder("shards", shards),
      /model-00002-of-00003\.safetensors: there is no such file/,
    );
    await rejected(
      inFolder("no-config", ["gqa/model.safetensors"]),
      /config\.json: there is no such file/,
    );
  });

  it("is refused where a part of a split model was renamed", async () => {
    const renamed = write(
      folder,
      "renamed.gguf",
      readFileSync(tiny("gguf/split-q8_0-00001-of-00003.gguf")),
    );
    await rejected(renamed, /split\.count says 3 files, the name says 1/);
  });

  it("opens the only model of a folder, split or not", async () => {
    const split = inFolder(
      "split",
      [1, 2, 3].map((part) => `gguf/split-q8_0-0000${part}-of-00003.gguf`),
    );
    await using checkpoint = await openCheckpoint(split);
    expect([checkpoint.tensors.length, checkpoint.files.length]).toEqual([21, 3]);
  });
});
