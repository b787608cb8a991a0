import * as fc from "fast-check";
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { TramontaneError } from "../../src/base/errors.ts";
import { MistralConfig } from "../../src/models/mistral/config.ts";
import { MistralForCausalLM } from "../../src/models/mistral/model.ts";
import { bindWeights } from "../../src/weights/bind.ts";
import { openCheckpoint } from "../../src/weights/checkpoint.ts";
import {
  array,
  bool,
  float,
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

/** One file that is written again and again: its folder holds nothing but the config that safetensors need. */
class Victim {
  readonly path: string;
  readonly #file: number;
  slowestMs = 0;
  opened = 0;
  /** Codes of the errors, and how often. */
  readonly refusals = new Map<string, number>();

  constructor(name: string) {
    const folder = join(temporary, name);
    mkdirSync(folder);
    write(folder, "config.json", readFileSync(goldenPath("mistral-tiny/gqa/config.json")));
    this.path = join(folder, name);
    this.#file = openSync(this.path, "w+");
    afterAll(() => closeSync(this.#file));
  }

  /** Opens a file of `size` bytes that begins with `head`, as far as binding; only errors of ours may come of it. */
  async survives(head: Uint8Array, size: number): Promise<void> {
    ftruncateSync(this.#file, 0);
    writeSync(this.#file, head.subarray(0, size), 0, Math.min(head.length, size), 0);
    ftruncateSync(this.#file, size);
    const start = performance.now();
    try {
      await using checkpoint = await openCheckpoint(this.path);
      this.opened++;
      const config = MistralConfig.parse(checkpoint.config.json);
      bindWeights(checkpoint, new MistralForCausalLM(config), { headDim: config.head_dim });
    } catch (error) {
      if (!(error instanceof TramontaneError) || error.name === "InternalError") throw error;
      this.refusals.set(error.code, (this.refusals.get(error.code) ?? 0) + 1);
    } finally {
      this.slowestMs = Math.max(this.slowestMs, performance.now() - start);
    }
  }
}

const temporary = temporaryFolder();
const gguf = readFileSync(goldenPath("mistral-tiny/gguf/model-q4_0.gguf"));
const ggufHeader = 9152;
const safetensors = readFileSync(goldenPath("mistral-tiny/gqa/model.safetensors"));
const safetensorsHeader = 8 + Number(safetensors.readBigUint64LE());

/** Every type of value, in few bytes, so that most mutations hit structure. */
const dense = ggufBytes({
  ...smallGguf,
  keys: [
    ...llamaKeys,
    ["a.u8", [0, Buffer.alloc(1)]],
    ["a.i16", [3, Buffer.alloc(2)]],
    ["a.u64", [10, Buffer.alloc(8)]],
    ["a.f64", [12, Buffer.alloc(8)]],
    ["a.bool", bool(true)],
    ["llama.rope.freq_base", float(10_000)],
    ["general.alignment", uint(32)],
    ["tokenizer.ggml.model", string("llama")],
    ["tokenizer.ggml.tokens", strings(["<s>", "", "ü"])],
    ["tokenizer.ggml.token_type", array(5, 3, Buffer.alloc(12))],
    ["tokenizer.ggml.flags", array(7, 3, Buffer.alloc(3))],
    ["tokenizer.ggml.longs", array(10, 2, Buffer.alloc(16))],
  ],
});

/** Numbers that lie at edges: of signs, of alignment, of 2^53, of what the file can hold. */
const edges = [
  0n,
  1n,
  7n,
  8n,
  9n,
  31n,
  33n,
  255n,
  65_536n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];
type Mutation = (bytes: Buffer, at: number) => Buffer;
const overwrite =
  (number: Buffer): Mutation =>
  (bytes, at) => {
    number.copy(bytes, at);
    return bytes;
  };
const splice =
  (removed: number, added: Uint8Array): Mutation =>
  (bytes, at) =>
    Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(at + removed)]);
const littleEndian = (number: bigint, length: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUint64LE(number);
  return bytes.subarray(0, length);
};
const edge = fc.constantFrom(...edges);
/** Changes in place are three times as likely: what is moved rarely gets far. */
const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.integer({ min: 0, max: 255 }).map((byte) => overwrite(Buffer.from([byte]))),
  },
  { weight: 3, arbitrary: edge.map((number) => overwrite(littleEndian(number, 4))) },
  { weight: 3, arbitrary: edge.map((number) => overwrite(littleEndian(number, 8))) },
  {
    weight: 3,
    arbitrary: fc
      .constantFrom(...'0123456789[]{},:"-ae')
      .map((character) => overwrite(Buffer.from(character))),
  },
  {
    weight: 1,
    arbitrary: fc.integer({ min: 1, max: 16 }).map((count) => splice(count, new Uint8Array())),
  },
  {
    weight: 1,
    arbitrary: fc.uint8Array({ minLength: 1, maxLength: 16 }).map((more) => splice(0, more)),
  },
);
/** Without bias, which would choose the first byte most of the time. */
const place = fc.noBias(fc.integer({ min: 0, max: 2 ** 30 - 1 })).map((part) => part / 2 ** 30);
const mutations = fc.array(fc.tuple(mutation, place), { minLength: 1, maxLength: 3 });
const mutated = (header: Uint8Array, changes: readonly (readonly [Mutation, number])[]): Buffer =>
  changes.reduce<Buffer>(
    (bytes, [change, at]) => change(bytes, Math.floor(at * bytes.length)),
    Buffer.from(header),
  );

describe("a file cut at any byte is refused or opened, with errors of ours alone", () => {
  it("a GGUF file", async () => {
    const victim = new Victim("cut.gguf");
    for (let size = 0; size < 1200; size++) await victim.survives(gguf, size);
    for (let size = 1200; size < gguf.length; size += 131) await victim.survives(gguf, size);
    expect(victim.opened).toBe(0);
    await victim.survives(gguf, gguf.length);
    expect(victim.opened).toBe(1);
    expect(victim.slowestMs).toBeLessThan(5000);
  });

  it("a safetensors file", async () => {
    const victim = new Victim("cut.safetensors");
    for (let size = 0; size < safetensorsHeader + 64; size += size < 64 ? 1 : 7)
      await victim.survives(safetensors, size);
    for (let size = safetensorsHeader; size < safetensors.length; size += 2003)
      await victim.survives(safetensors, size);
    expect(victim.opened).toBe(0);
    await victim.survives(safetensors, safetensors.length);
    expect(victim.opened).toBe(1);
    expect(victim.slowestMs).toBeLessThan(5000);
  });
});

/** Values that a field of a safetensors header may be replaced with. */
const junk = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    "",
    "F32",
    "BF16",
    "I8",
    "toString",
    [],
    {},
    [0],
    [[1]],
    2 ** 53,
  ),
  fc.array(
    fc.oneof(fc.integer({ min: -1, max: 700_000 }), fc.constant(0.5), fc.constant(2 ** 60)),
    {
      maxLength: 4,
    },
  ),
);
const replaced = fc.array(
  fc.tuple(
    place,
    fc.constantFrom<string>("dtype", "shape", "data_offsets", "name", "entry", "swap"),
    junk,
  ),
  { minLength: 1, maxLength: 2 },
);
type Entry = Record<string, unknown>;

/** A header with fields, names or whole entries replaced, of whatever length it then has. */
function withJunk(changes: readonly (readonly [number, string, unknown])[]): Buffer {
  const entries = Object.entries(
    JSON.parse(safetensors.subarray(8, safetensorsHeader).toString()) as Record<string, Entry>,
  );
  for (const [at, field, value] of changes) {
    const index = Math.floor(at * entries.length);
    const [name, entry] = entries[index];
    const next = entries[(index + 1) % entries.length][1];
    if (field === "name") entries[index] = [String(value), entry];
    else if (field === "entry") entries[index] = [name, value as Entry];
    else if (field === "swap") entries[index] = [name, next];
    else entries[index] = [name, { ...entry, [field]: value }];
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  return Buffer.concat([littleEndian(BigInt(json.length), 8), json]);
}

describe("a file whose header was changed at random is refused or opened, with errors of ours alone", () => {
  /** `reached`: codes that must occur, lest all files fail the first check. */
  const subjects = [
    {
      name: "dense.gguf",
      heads: mutations.map((changes) => mutated(dense.subarray(0, dense.length - 1024), changes)),
      dataBytes: 1024,
      runs: 5000,
      reached: ["gguf-header", "gguf-key", "gguf-alignment", "tensor", "config-field", "weights"],
    },
    {
      name: "golden.gguf",
      heads: mutations.map((changes) => mutated(gguf.subarray(0, ggufHeader), changes)),
      dataBytes: gguf.length - ggufHeader,
      runs: 2500,
      reached: ["gguf-header", "gguf-key", "tensor-type", "tensor", "weights"],
    },
    {
      name: "golden.safetensors",
      heads: mutations.map((changes) =>
        mutated(safetensors.subarray(0, safetensorsHeader), changes),
      ),
      dataBytes: safetensors.length - safetensorsHeader,
      runs: 2000,
      reached: ["json", "safetensors", "weights"],
    },
    {
      name: "junk.safetensors",
      heads: replaced.map(withJunk),
      dataBytes: safetensors.length - safetensorsHeader,
      runs: 2500,
      reached: ["safetensors", "tensor", "tensor-type", "weights"],
    },
  ];
  for (const { name, heads, dataBytes, runs, reached } of subjects)
    it(`${name}, ${runs} times`, async () => {
      const victim = new Victim(name);
      await fc.assert(
        fc.asyncProperty(heads, (head) => victim.survives(head, head.length + dataBytes)),
        { numRuns: runs, seed: 1, endOnFailure: true },
      );
      expect(victim.slowestMs).toBeLessThan(5000);
      expect([...victim.refusals.keys()]).toEqual(expect.arrayContaining(reached));
      expect(victim.opened).toBeGreaterThan(0);
    });
});
