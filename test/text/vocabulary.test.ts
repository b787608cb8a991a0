import { describe, expect, it } from "vitest";
import { InputError, UnsupportedError } from "../../src/base/errors.ts";
import { byteLetters } from "../../src/text/byte-alphabet.ts";
import { ggufVocabulary } from "../../src/text/gguf-vocabulary.ts";
import { huggingFaceVocabulary } from "../../src/text/huggingface-vocabulary.ts";
import { sentencePieceVocabulary } from "../../src/text/sentencepiece.ts";
import { tekkenVocabulary } from "../../src/text/tekken.ts";
import { createTokenizer } from "../../src/text/tokenizer.ts";
import type { Vocabulary } from "../../src/text/vocabulary.ts";

type Json = Record<string, unknown>;
type Source = () => Vocabulary;

/** One vocabulary in every form: "<unk> <s> </s> [REF]", the bytes, and some pieces with scores. */
const bytePieces = Array.from(
  { length: 256 },
  (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
);
const learned = ["▁", "a", "b", "ab", "▁ab", "▁▁", "abab"];
const pieces = ["<unk>", "<s>", "</s>", "[REF]", ...bytePieces, ...learned];
const types = [2, 3, 3, 4, ...bytePieces.map(() => 6), ...learned.map(() => 1)];
const scores = [...pieces.slice(0, 260).map(() => 0), 0, 0, 0, -1, -3, -1e9, -2];
const ids = (...wanted: string[]): number[] => wanted.map((piece) => pieces.indexOf(piece));

const gguf = (changes: Json = {}): Source => {
  const keys: Json = { model: "llama", tokens: pieces, token_type: types, scores, ...changes };
  const named = Object.entries(keys).map(
    ([key, value]) => [`tokenizer.ggml.${key}`, value] as const,
  );
  return () => ggufVocabulary(new Map(named));
};

const byteLevel = (changes: Json = {}): Source =>
  gguf({
    model: "gpt2",
    pre: "smollm",
    tokens: ["<s>", ...byteLetters, "Ġa", "Ġab"],
    token_type: [3, ...byteLetters.map(() => 1), 1, 4],
    merges: ["Ġ a"],
    ...changes,
  });

const field = (number: number, wire: number, ...bytes: number[]): number[] => [
  number * 8 + wire,
  ...bytes,
];
const message = (number: number, bytes: number[]): number[] =>
  field(
    number,
    2,
    ...(bytes.length < 128 ? [bytes.length] : [(bytes.length % 128) | 128, bytes.length >> 7]),
    ...bytes,
  );

const sentencePiece = (
  trainer = [...field(3, 0, 2)],
  normalizer = [...field(4, 0, 0)],
): Uint8Array =>
  Uint8Array.from([
    ...pieces.flatMap((piece, id) =>
      message(1, [
        ...message(1, [...Buffer.from(piece)]),
        ...field(2, 5, ...new Uint8Array(Float32Array.of(scores[id]).buffer)),
        ...field(3, 0, types[id]),
      ]),
    ),
    ...message(2, trainer),
    ...message(3, normalizer),
  ]);

const huggingFace = (changes: Json = {}, config: unknown = undefined): Source => {
  const json = {
    added_tokens: ["<unk>", "<s>", "</s>", "[REF]"].map((content, id) => ({
      id,
      content,
      special: id < 3,
    })),
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: {
      type: "BPE",
      unk_token: "<unk>",
      byte_fallback: true,
      vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
      merges: ["a b", ["ab", "ab"], "▁ ab", "▁ ▁"],
    },
    ...changes,
  };
  return () => huggingFaceVocabulary(json, config);
};

const tekken = (changes: Json = {}, entries = 257): Source => {
  const json = {
    config: {
      pattern: String.raw` ?\p{L}+|\s+`,
      default_vocab_size: 20 + 257,
      default_num_special_tokens: 20,
    },
    vocab: [...byteLetters.map((_, byte) => [byte]), [32, 97]]
      .slice(0, entries)
      .map((bytes, rank) => ({ rank, token_bytes: Buffer.from(bytes).toString("base64") })),
    ...changes,
  };
  return () => tekkenVocabulary(json);
};

describe("a SentencePiece vocabulary", () => {
  const sources: Record<string, Source> = {
    GGUF: gguf(),
    "tokenizer.model": () => sentencePieceVocabulary(sentencePiece()),
    "tokenizer.json": huggingFace(),
  };
  for (const [name, source] of Object.entries(sources))
    describe(`from ${name}`, () => {
      const tokenizer = createTokenizer(source);
      it.each([
        ["ab", ids("▁ab")],
        ["  ab", ids("▁▁", "▁ab")], // runs of ▁ merge last
        ["abab", ids("▁", "abab")],
        ["", []],
        ["aé", ids("▁", "a", "<0xC3>", "<0xA9>")],
        ["<s>", ids("▁", "<0x3C>", "<0x73>", "<0x3E>")],
        ["[REF]ab", ids("▁", "[REF]", "ab")], // no second prefix
        ["\ud800", ids("▁", "<0xEF>", "<0xBF>", "<0xBD>")],
      ])("encodes %j", (text, ids) => {
        expect(tokenizer.encode(text)).toEqual(ids);
        expect(tokenizer.decode(ids)).toBe(text.toWellFormed());
      });
      it("puts a prefix before each stretch between control tokens", () => {
        const wanted = ids("▁ab", "</s>", "▁ab");
        expect(tokenizer.encode("ab</s>ab", { special: true })).toEqual(wanted);
      });
      it("takes away the space of the first token only", () => {
        expect(tokenizer.decode(ids("<s>", "▁ab", "▁ab"))).toBe("ab ab");
        expect(tokenizer.decode(ids("<0x20>", "▁ab"))).toBe("  ab");
      });
    });

  it("adds BOS by default, unless the file says otherwise", () => {
    const told = { add_bos_token: false, bos_token_id: 1, eos_token_id: 2, eot_token_id: 2 };
    const { addsBos, bos, eos } = createTokenizer(gguf(told));
    expect([addsBos, bos, eos]).toEqual([false, 1, [2]]);
    expect(createTokenizer(gguf()).addsBos).toBe(true);
    const model = createTokenizer(() => sentencePieceVocabulary(sentencePiece()));
    expect([model.addsBos, model.bos, model.eos]).toEqual([true, 1, [2]]);
  });

  it("goes without the prefix where the file says so", () => {
    const tokenizer = createTokenizer(gguf({ add_space_prefix: false }));
    expect(tokenizer.encode("ab")).toEqual(ids("ab"));
    expect(tokenizer.decode(ids("▁ab"))).toBe(" ab");
  });
});

describe("tokenizer.json", () => {
  const template = {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
  };
  it("adds BOS where its post-processor or tokenizer_config.json does", () => {
    const made = [
      huggingFace(),
      huggingFace({ post_processor: { type: "Sequence", processors: [template] } }),
      huggingFace({ post_processor: template }, { add_bos_token: false }),
      huggingFace({}, { add_bos_token: true, bos_token: "<s>", eos_token: { content: "</s>" } }),
    ].map(createTokenizer);
    expect(made.map(({ addsBos, bos, eos }) => [addsBos, bos, eos])).toEqual([
      [false, undefined, []],
      [true, 1, []],
      [false, 1, []],
      [true, 1, [2]],
    ]);
  });

  it("lets a special token take the white space beside it", () => {
    const added_tokens = [{ id: 2, content: "</s>", special: true, lstrip: true, rstrip: true }];
    const tokenizer = createTokenizer(huggingFace({ added_tokens }));
    expect(tokenizer.encode("ab  </s> \n ab", { special: true })).toEqual(
      ids("▁ab", "</s>", "▁ab"),
    );
  });
});

describe("quoted text", () => {
  it("holds no special piece, not even one that overlaps another or is one character", () => {
    const specials = ["ab", "bc", "abcd", "c"];
    const tokens = [...specials, ...byteLetters];
    const token_type = tokens.map((_, id) => (id < specials.length ? 3 : 1));
    const tokenizer = createTokenizer(byteLevel({ tokens, token_type, merges: [] }));
    for (const text of ["abcd", "abc", "aabcc", "c", "xyz", "\ufdd1\ufdd0c"]) {
      const quoted = tokenizer.encode(tokenizer.quote(text), { special: "unquoted" });
      expect(quoted).toEqual(tokenizer.encode(text));
      expect(tokenizer.encode(`c${tokenizer.quote(text)}ab`, { special: "unquoted" })).toEqual([
        3,
        ...quoted,
        0,
      ]);
    }
  });
});

describe("a byte-level vocabulary", () => {
  it("finds user-defined pieces in any text, spelled as they are", () => {
    const tokenizer = createTokenizer(byteLevel({ tokens: ["<s>", ...byteLetters, "Ġa", " ab"] }));
    expect(tokenizer.encode("b a ab")).toEqual([1 + 98, 257, 258]);
    expect(tokenizer.decode([257, 258])).toBe(" a ab");
  });

  it("is merged by rank when it comes from tekken.json", () => {
    const tokenizer = createTokenizer(tekken());
    expect(tokenizer.encode("a a")).toEqual([20 + 97, 20 + 256]);
    expect(tokenizer.encode("</s>")).not.toContain(2);
    expect(tokenizer.encode("[INST]", { special: true })).toEqual([3]);
    expect([tokenizer.bos, tokenizer.eos, tokenizer.idOf("[TOOL_CONTENT]")]).toEqual([1, [2], 19]);
  });
});

describe("a vocabulary that cannot be used is refused", () => {
  const input: readonly (readonly [string, Source, string | RegExp])[] = [
    [
      "no tokens",
      gguf({ tokens: undefined }),
      "tokenizer.ggml.tokens: expected a list, each item a text, got nothing",
    ],
    [
      "tokens that are numbers",
      gguf({ tokens: [1] }),
      "tokenizer.ggml.tokens: expected a list, each item a text, got a list with other items",
    ],
    [
      "too few scores",
      gguf({ scores: [1] }),
      "tokenizer.ggml.scores: expected 267 numbers, one for each of tokenizer.ggml.tokens, got 1",
    ],
    [
      "a flag that is a text",
      gguf({ add_bos_token: "yes" }),
      'tokenizer.ggml.add_bos_token: expected true or false, got "yes"',
    ],
    [
      "BOS outside",
      gguf({ bos_token_id: 9999 }),
      "tokenizer.ggml.bos_token_id: token id 9999 is outside the vocabulary of 267 tokens",
    ],
    [
      "a merge of nothing",
      byteLevel({ merges: ["Ġ a", "x yz"] }),
      'tokenizer.ggml.merges[1]: merge of "x" and "yz"',
    ],
    ["a merge without a space", byteLevel({ merges: ["xyz"] }), "tokenizer.ggml.merges[0]"],
    [
      "half a tokenizer.model",
      () => sentencePieceVocabulary(sentencePiece().subarray(0, 1001)),
      "ends in the middle of a field",
    ],
    [
      "an empty tokenizer.model",
      () => sentencePieceVocabulary(new Uint8Array()),
      "holds no pieces",
    ],
    [
      "a text file as tokenizer.model",
      () => sentencePieceVocabulary(Buffer.from("version https://git-lfs")),
      /tokenizer\.model/,
    ],
    [
      "a tokenizer.json that is a list",
      () => huggingFaceVocabulary([], undefined),
      "tokenizer.json: expected an object, got []",
    ],
    [
      "a vocabulary without ids",
      huggingFace({ model: { type: "BPE", vocab: { a: "b" }, merges: [] } }),
      'tokenizer.json: model.vocab: expected a token id, got "b"',
    ],
    [
      "a vocabulary of two billion ids",
      huggingFace({ model: { type: "BPE", vocab: { a: 2 ** 31 - 1 }, merges: [] } }),
      "tokenizer.json: model.vocab: expected a token id, got 2147483647",
    ],
    ["a short tekken.json", tekken({}, 100), "expected at least 257 entries"],
    [
      "a tekken.json out of order",
      tekken({ vocab: Array.from({ length: 257 }, () => ({ rank: 1, token_bytes: "AA==" })) }),
      "tekken.json: vocab[0].rank: expected 0, got 1",
    ],
  ];
  it.each(input)("%s", (_, source, message) => {
    expect(() => createTokenizer(source)).toThrow(InputError);
    expect(() => createTokenizer(source)).toThrow(message);
  });

  const unsupported: readonly (readonly [string, Source, string])[] = [
    [
      "a GGUF model",
      gguf({ model: "bert" }),
      'tokenizer.ggml.model is "bert"; supported are "gpt2" (byte-level BPE) and "llama" (SentencePiece BPE)',
    ],
    [
      "a pre-tokenizer",
      byteLevel({ pre: "chatglm-bpe" }),
      'tokenizer.ggml.pre is "chatglm-bpe"; supported are gpt-2, llama-bpe, smollm, tekken',
    ],
    ["an unnamed pre-tokenizer", byteLevel({ pre: undefined }), 'tokenizer.ggml.pre is "(none)"'],
    [
      "Unigram in tokenizer.json",
      huggingFace({ model: { type: "Unigram" } }),
      'model.type is "Unigram"',
    ],
    [
      "Unigram in tokenizer.model",
      () => sentencePieceVocabulary(sentencePiece(field(3, 0, 1))),
      "not a BPE model",
    ],
    [
      "white space removed",
      () => sentencePieceVocabulary(sentencePiece(undefined, [])),
      "remove_extra_whitespaces",
    ],
    [
      "a normaliser's table",
      () =>
        sentencePieceVocabulary(sentencePiece(undefined, [...message(2, [1]), ...field(4, 0, 0)])),
      "a table of its own",
    ],
    [
      "an unknown normalizer",
      huggingFace({ normalizer: { type: "Nmt" } }),
      "Unknown Normalizer type: Nmt",
    ],
    [
      "an unknown decoder",
      huggingFace({ decoder: { type: "WordPiece" } }),
      "tokenizer.json: decoder",
    ],
  ];
  it.each(unsupported)("%s", (_, source, message) => {
    expect(() => createTokenizer(source)).toThrow(UnsupportedError);
    expect(() => createTokenizer(source)).toThrow(message);
  });
});
