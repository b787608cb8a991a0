import { describe, expect, it } from "vitest";
import { InputError, UnsupportedError } from "../../src/base/errors.ts";
import { MistralConfig } from "../../src/models/mistral/config.ts";
import { openCheckpoint } from "../../src/weights/checkpoint.ts";
import { openFile } from "../../src/weights/file.ts";
import { readGgufHeader } from "../../src/weights/gguf.ts";
import {
  array,
  bool,
  embedding,
  float,
  ggufBytes,
  llamaKeys,
  mebibyte,
  patience,
  refusal,
  smallGguf,
  string,
  strings,
  temporaryFolder,
  tooMuch,
  u64,
  uint,
  write,
  type GgufParts,
  type Value,
} from "./files.ts";

const folder = temporaryFolder();
type Row = [what: string, parts: Partial<GgufParts> | Buffer, message: RegExp];
const key = (name: string, value: Value): Partial<GgufParts> => ({
  keys: [...llamaKeys.filter(([known]) => known !== name), [name, value]],
});
const tensor = (change: Partial<typeof embedding>): Partial<GgufParts> => ({
  tensors: [{ ...embedding, ...change }],
});

const damaged: Row[] = [
  ["has another magic number", { magic: "GGML" }, /begins with "GGML", not "GGUF"/],
  ["is empty", Buffer.alloc(0), /the magic number takes 4 bytes and the file has 0/],
  ["claims 2^60 keys", { keyCount: tooMuch }, /claims 115292150460684\d+ keys/],
  ["claims 2^60 tensors", { tensorCount: tooMuch }, /claims 115292150460684\d+ tensors/],
  ["claims a key more than it has", { keyCount: llamaKeys.length + 1 }, /expected a GGUF header/],
  ["claims a tensor more than it has", { tensorCount: 2 }, /expected a GGUF header/],
  ["has a string of 2^60 bytes", key("a.b", [8, Buffer.alloc(8, 0x10)]), /a\.b takes \d+ bytes/],
  ["has an array of 2^60 items", key("a.b", array(0, tooMuch, Buffer.alloc(0))), /are plausible/],
  [
    "has an array longer than the file",
    key("a.b", array(4, 5_000_000, Buffer.alloc(8))),
    /a\.b takes 20000000 bytes/,
  ],
  [
    "has an array with more texts than the file has bytes for",
    key("a.b", array(8, 5_000_000, Buffer.alloc(64))),
    /a\.b takes 40000000 bytes/,
  ],
  [
    "has an array of arrays",
    key("a.b", array(9, 1, Buffer.alloc(12))),
    /a\.b is an array of arrays/,
  ],
  [
    "has a value of an unknown type",
    key("a.b", [13, Buffer.alloc(8)]),
    /a\.b has the unknown value type 13/,
  ],
  [
    "has a key twice",
    { keys: [...llamaKeys, llamaKeys[3]] },
    /key "llama\.embedding_length" is there twice/,
  ],
  [
    "has a key that is a trap in JavaScript",
    key("__proto__", strings(["a"])),
    /has a key "__proto__"/,
  ],
  [
    "has a tensor twice",
    { tensors: [embedding, { ...embedding, offset: 1024 }], dataBytes: 2048 },
    /token_embd\.weight" is there twice/,
  ],
  [
    "has tensors over each other",
    { tensors: [embedding, { ...embedding, name: "output.weight", offset: 512 }], dataBytes: 2048 },
    /output\.weight: shares bytes with token_embd\.weight/,
  ],
  [
    "has a tensor outside",
    tensor({ offset: 4096 }),
    /token_embd\.weight: expected bytes .* is it truncated/,
  ],
  ["has a tensor beyond 2^53", tensor({ offset: 2n ** 63n }), /token_embd\.weight: expected bytes/],
  [
    "has a tensor at an odd place",
    { ...tensor({ offset: 16 }), dataBytes: 2048 },
    /multiple of 32, got 16/,
  ],
  ["has a size of 0", tensor({ dims: [32, 0] }), /expected sizes above 0, got \[0, 32\]/],
  ["has a size of 2^32", tensor({ dims: [32, 2n ** 32n] }), /token_embd\.weight: expected bytes/],
  ["has a size of 2^62", tensor({ dims: [2n ** 62n, 8] }), /token_embd\.weight/],
  [
    "has sizes whose product is beyond numbers",
    tensor({ dims: [32, 2 ** 31, 2 ** 31, 2 ** 31] }),
    /token_embd\.weight: expected bytes/,
  ],
  ["has a tensor without dimensions", tensor({ dims: [] }), /token_embd\.weight has 0 dimensions/],
  ["has a tensor of 5 dimensions", tensor({ dims: [32, 2, 2, 1, 2] }), /has 5 dimensions/],
  [
    "has rows of half a block",
    tensor({ dims: [16, 16], type: 8 }),
    /q8_0 stores whole blocks of 32, got rows of 16/,
  ],
  ["is aligned to 0", key("general.alignment", uint(0)), /alignment/],
  [
    "is aligned to 48",
    key("general.alignment", uint(48)),
    /general\.alignment: expected a power of two, got 48/,
  ],
  [
    "is aligned to a text",
    key("general.alignment", string("32")),
    /general\.alignment: expected a power of two/,
  ],
  [
    "has a text for a number",
    key("llama.embedding_length", string("32")),
    /llama\.embedding_length: expected a number, got string/,
  ],
  [
    "has a list for a number",
    key("llama.attention.head_count", array(4, 1, Buffer.alloc(4))),
    /llama\.attention\.head_count: expected a number/,
  ],
  [
    "has no number of layers",
    { keys: llamaKeys.filter(([name]) => name !== "llama.block_count") },
    /llama\.block_count: is missing/,
  ],
];

const unsupported: Row[] = [
  [
    "has version 1",
    { version: 1 },
    /expected GGUF of version 2 or 3, little-endian, got version 1/,
  ],
  ["has version 4", { version: 4 }, /got version 4/],
  ["is big-endian", { version: 0x03000000 }, /got a big-endian file/],
  [
    "is of another architecture",
    key("general.architecture", string("falcon")),
    /expected llama or mistral, got "falcon"/,
  ],
  [
    "has a tensor of an unknown type",
    tensor({ type: 99 }),
    /token_embd\.weight: the type 99 is not supported; supported are f32/,
  ],
  [
    "turns a part of a head",
    key("llama.rope.dimension_count", uint(16)),
    /rope\.dimension_count: expected the head's dimension 32, got 16/,
  ],
  [
    "has values of another size than keys",
    {
      keys: [
        ...llamaKeys,
        ["llama.attention.key_length", uint(32)],
        ["llama.attention.value_length", uint(64)],
      ],
    },
    /attention\.value_length/,
  ],
  [
    "attends to the future",
    key("llama.attention.causal", bool(false)),
    /llama\.attention\.causal: false changes what is computed/,
  ],
  ["scales its logits", key("llama.logit_scale", float(0.25)), /llama\.logit_scale: 0\.25/],
];

describe("a GGUF file is refused that", () => {
  for (const [expected, rows] of [
    [InputError, damaged],
    [UnsupportedError, unsupported],
  ] as const)
    for (const [what, parts, message] of rows)
      it(what, { timeout: patience }, async () => {
        const bytes = Buffer.isBuffer(parts) ? parts : ggufBytes({ ...smallGguf, ...parts });
        const path = write(folder, "hostile.gguf", bytes);
        const error = await refusal(path);
        expect(error.message).toMatch(message);
        expect(error.message).toContain("hostile.gguf");
        expect(error).toBeInstanceOf(expected);
      });

  for (const [what, name, value, refused] of [
    ["stretches its positions", "llama.rope.scaling.type", string("yarn"), /rope_scaling/],
    ["stretches them in llama.cpp's old way", "llama.rope.scale_linear", float(4), /rope_scaling/],
    ["has experts", "llama.expert_count", uint(8), /num_local_experts/],
  ] as const)
    it(`${what}, by the config that it becomes`, async () => {
      const path = write(folder, "config.gguf", ggufBytes({ ...smallGguf, ...key(name, value) }));
      await using checkpoint = await openCheckpoint(path);
      expect(() => MistralConfig.parse(checkpoint.config.json)).toThrow(refused);
    });

  it("has factors for its positions, by the config that it becomes", async () => {
    const tensors = [
      embedding,
      { ...embedding, name: "rope_freqs.weight", dims: [16], offset: 1024 },
    ];
    const path = write(folder, "freqs.gguf", ggufBytes({ ...smallGguf, tensors, dataBytes: 1088 }));
    await using checkpoint = await openCheckpoint(path);
    expect(() => MistralConfig.parse(checkpoint.config.json)).toThrow(
      /rope_scaling.*rope_freqs\.weight/,
    );
  });

  it("keeps what it does not understand of the metadata for the config's notice", async () => {
    const path = write(
      folder,
      "odd.gguf",
      ggufBytes({ ...smallGguf, ...key("llama.novelty", uint(8)) }),
    );
    await using checkpoint = await openCheckpoint(path);
    const notices: string[] = [];
    MistralConfig.parse(checkpoint.config.json, { notice: (text) => notices.push(text) });
    expect(notices.join()).toContain("llama.novelty");
  });
});

describe("the metadata of a GGUF file", () => {
  const values = (type: number, bytes: readonly number[], count: number): Value =>
    array(type, count, Buffer.from(bytes));
  const rows: [what: string, Value, unknown][] = [
    ["u8", [0, Buffer.of(200)], 200],
    ["i8", [1, Buffer.of(200)], -56],
    ["u16", [2, Buffer.of(0, 200)], 51_200],
    ["i16", [3, Buffer.of(0, 200)], -14_336],
    ["u32", [4, Buffer.of(1, 0, 0, 200)], 3_355_443_201],
    ["i32", [5, Buffer.of(1, 0, 0, 200)], -939_524_095],
    ["f32", float(0.5), 0.5],
    ["bool", bool(true), true],
    ["u64", [10, u64(2 ** 53 - 1)], 2 ** 53 - 1],
    ["u64 beyond 2^53, rounded", [10, u64(2n ** 64n - 1n)], 2 ** 64],
    ["i64", [11, Buffer.alloc(8, 0xff)], -1],
    ["f64", [12, Buffer.of(0, 0, 0, 0, 0, 0, 4, 192)], -2.5],
    ["text", string("é\0\ufeff"), "é\0\ufeff"],
    ["a list of i16", values(3, [1, 0, 255, 255], 2), [1, -1]],
    ["a list of bool", values(7, [1, 0], 2), [true, false]],
    ["a list of u64", array(10, 1, u64(7)), [7]],
    ["an empty list", values(6, [], 0), []],
    ["a list of texts, some not UTF-8", values(8, [1, 0, 0, 0, 0, 0, 0, 0, 0xc3], 1), ["\ufffd"]],
  ];
  for (const [what, value, expected] of rows)
    it(`has ${what}`, async () => {
      const bytes = ggufBytes({ ...smallGguf, ...key("a.b", value) });
      await using file = await openFile(write(folder, "value.gguf", bytes));
      expect((await readGgufHeader(file)).metadata.get("a.b")).toEqual(expected);
    });

  it("may have keys of any name, such as those of the header itself", async () => {
    const keys = [...llamaKeys, ["kv_count", uint(1)], ["version", uint(9)]] as const;
    const bytes = ggufBytes({ ...smallGguf, keys });
    await using file = await openFile(write(folder, "keys.gguf", bytes));
    const { metadata } = await readGgufHeader(file);
    expect([metadata.get("kv_count"), metadata.get("version"), metadata.size]).toEqual([1, 9, 9]);
  });
});

describe("a huge GGUF header costs no more than its bytes", () => {
  const cases: [string, Value, RegExp | undefined][] = [
    [
      "a vocabulary of a million",
      strings(Array.from({ length: 1_000_000 }, (_, at) => `${at}`)),
      undefined,
    ],
    ["32 MB of empty strings", array(8, 4 * mebibyte, Buffer.alloc(32 * mebibyte)), undefined],
    ["a text of 32 MB", string("x".repeat(32 * mebibyte)), undefined],
    ["60 MB of bytes", array(0, 60 * mebibyte, Buffer.alloc(60 * mebibyte)), /are plausible/],
    ["a header of 70 MB", string("x".repeat(70 * mebibyte)), /more than 67108864 bytes/],
  ];
  for (const [what, value, message] of cases)
    it(what, { timeout: patience }, async () => {
      const path = write(
        folder,
        "huge.gguf",
        ggufBytes({ ...smallGguf, ...key("tokenizer.x", value) }),
      );
      if (message) expect((await refusal(path)).message).toMatch(message);
      else await (await openCheckpoint(path))[Symbol.asyncDispose]();
    });

  it("of 65 536 tensors", { timeout: patience }, async () => {
    const tensors = Array.from({ length: 65_536 }, (_, at) => ({ ...embedding, name: `t${at}` }));
    const path = write(folder, "huge.gguf", ggufBytes({ ...smallGguf, tensors }));
    expect((await refusal(path)).message).toMatch(/shares bytes with/);
  });
});
