/** The vocabulary of a GGUF file: byte-level BPE (`gpt2`) or SentencePiece with scores (`llama`). */
import * as door from "./door.ts";
import { scored } from "./sentencepiece.ts";
import { type Kind, kindOf, mergesInOrder, type Vocabulary } from "./vocabulary.ts";
import { patterns } from "./words.ts";

const { broken, id, list, number, optional, record, text, unsupported, yesOrNo } = door;

/** How text is cut into words, by `tokenizer.ggml.pre`. */
const preTokenizers = new Map([
  ["gpt-2", { patterns: [patterns["gpt-2"]], wholeWords: false }],
  ["llama-bpe", { patterns: [patterns["llama-bpe"]], wholeWords: true }],
  ["smollm", { patterns: [patterns.digit, patterns["gpt-2"]], wholeWords: false }],
  ["tekken", { patterns: [patterns.tekken], wholeWords: true }],
]);

const place = "tokenizer.ggml";
const at = (name: string): string => `${place}.${name}`;
const readCommon = record({
  tokens: list(text),
  token_type: optional(list(number), undefined),
  add_bos_token: optional(yesOrNo, undefined),
});
const readBytePairs = record({ pre: optional(text, "(none)"), merges: list(text) });
const readScored = record({ scores: list(number), add_space_prefix: optional(yesOrNo, true) });

export function ggufVocabulary(metadata: ReadonlyMap<string, unknown>): Vocabulary {
  const values: Record<string, unknown> = {};
  for (const [key, value] of metadata)
    if (key.startsWith(at(""))) values[key.slice(at("").length)] = value;
  const { model } = record({ model: text })(values, place);
  if (model === "gpt2") return bytePairs(values);
  if (model === "llama") return sentencePiece(values);
  const known = '"gpt2" (byte-level BPE) and "llama" (SentencePiece BPE)';
  return unsupported(at("model"), `is "${model}"; supported are ${known}`, "tokenizer-model");
}

function bytePairs(values: door.Json): Vocabulary {
  const { pre, merges } = readBytePairs(values, place);
  const rules = preTokenizers.get(pre);
  const known = [...preTokenizers.keys()].join(", ");
  if (!rules) return unsupported(at("pre"), `is "${pre}"; supported are ${known}`, "pre-tokenizer");
  return {
    ...commonOf(values, false),
    alphabet: "bytes",
    merges: mergesInOrder(merges, at("merges")),
    wholeWords: rules.wholeWords,
    preTokenizers: rules.patterns,
  };
}

function sentencePiece(values: door.Json): Vocabulary {
  const { scores, add_space_prefix: prefix } = readScored(values, place);
  const common = commonOf(values, true);
  mustBeAsLong(common.pieces, "scores", scores);
  return { ...common, ...scored(scores, prefix) };
}

type Common = Pick<Vocabulary, "pieces" | "kinds" | "addsBos" | "bos" | "eos">;

function commonOf(values: door.Json, addsBos: boolean): Common {
  const { tokens, token_type: types, add_bos_token } = readCommon(values, place);
  if (types) mustBeAsLong(tokens, "token_type", types);
  const [bos, ...eos] = ["bos_token_id", "eos_token_id", "eot_token_id", "eom_token_id"].map(
    (name) => {
      const given = optional(id, undefined)(values[name], at(name));
      if (given === undefined || given < tokens.length) return given;
      return broken(
        at(name),
        `token id ${given} is outside the vocabulary of ${tokens.length} tokens`,
      );
    },
  );
  const kinds = tokens.map((_, id): Kind => (types ? kindOf(types[id]) : "normal"));
  return { pieces: tokens, kinds, addsBos: add_bos_token ?? addsBos, bos: [bos], eos };
}

function mustBeAsLong(tokens: readonly string[], name: string, values: readonly number[]): void {
  if (values.length === tokens.length) return;
  const wanted = `expected ${tokens.length} numbers, one for each of ${at("tokens")}`;
  broken(at(name), `${wanted}, got ${values.length}`);
}
