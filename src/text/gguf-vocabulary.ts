/** The vocabulary of a GGUF file: byte-level BPE (`gpt2`) or SentencePiece with scores (`llama`). */
import { UnsupportedError } from "../base/errors.ts";
import { broken, id, list, number, optional, type Json, record, text, yesOrNo } from "./door.ts";
import { scored } from "./sentencepiece.ts";
import { type Kind, kindOf, mergesInOrder, type Vocabulary } from "./vocabulary.ts";
import { patterns } from "./words.ts";

/** How text is cut into words, by `tokenizer.ggml.pre`. */
const preTokenizers = new Map([
  ["gpt-2", { patterns: [patterns["gpt-2"]], wholeWords: false }],
  ["llama-bpe", { patterns: [patterns["llama-bpe"]], wholeWords: true }],
  ["smollm", { patterns: [patterns.digit, patterns["gpt-2"]], wholeWords: false }],
  ["tekken", { patterns: [patterns.tekken], wholeWords: true }],
]);

const place = "tokenizer.ggml";
const readCommon = record({
  tokens: list(text),
  token_type: optional(list(number), undefined),
  add_bos_token: optional(yesOrNo, undefined),
});
const readBytePairs = record({ pre: optional(text, "(none)"), merges: list(text) });
const readScored = record({ scores: list(number), add_space_prefix: optional(yesOrNo, true) });

export function ggufVocabulary(metadata: ReadonlyMap<string, unknown>): Vocabulary {
  const ours = [...metadata].filter(([key]) => key.startsWith(`${place}.`));
  const values = Object.fromEntries(
    ours.map(([key, value]) => [key.slice(place.length + 1), value]),
  );
  const { model } = record({ model: text })(values, place);
  if (model === "gpt2") return bytePairs(values);
  if (model === "llama") return sentencePiece(values);
  const known = '"gpt2" (byte-level BPE) and "llama" (SentencePiece BPE)';
  return unsupported("tokenizer-model", "model", model, known);
}

function unsupported(code: string, name: string, value: string, known: string): never {
  const problem = `${place}.${name} is "${value}"; supported are ${known}`;
  throw new UnsupportedError(code, problem, { [name]: value });
}

function bytePairs(values: Json): Vocabulary {
  const { pre, merges } = readBytePairs(values, place);
  const rules = preTokenizers.get(pre);
  const known = [...preTokenizers.keys()].join(", ");
  if (!rules) return unsupported("pre-tokenizer", "pre", pre, known);
  return {
    ...commonOf(values, false),
    alphabet: "bytes",
    merges: mergesInOrder(merges, `${place}.merges`),
    wholeWords: rules.wholeWords,
    preTokenizers: rules.patterns,
  };
}

function sentencePiece(values: Json): Vocabulary {
  const { scores, add_space_prefix: prefix } = readScored(values, place);
  const common = commonOf(values, true);
  mustBeAsLong(common.pieces, "scores", scores);
  return { ...common, ...scored(scores, prefix) };
}

type Common = Pick<Vocabulary, "pieces" | "kinds" | "addsBos" | "bos" | "eos">;

function commonOf(values: Json, addsBos: boolean): Common {
  const { tokens, token_type: types, add_bos_token } = readCommon(values, place);
  if (types) mustBeAsLong(tokens, "token_type", types);
  const [bos, ...eos] = ["bos", "eos", "eot", "eom"].map((name) => {
    const where = `${place}.${name}_token_id`;
    const given = optional(id, undefined)(values[`${name}_token_id`], where);
    if (given === undefined || given < tokens.length) return given;
    return broken(where, `token id ${given} is outside the vocabulary of ${tokens.length} tokens`);
  });
  const kinds = tokens.map((_, id): Kind => (types ? kindOf(types[id]) : "normal"));
  return { pieces: tokens, kinds, addsBos: add_bos_token ?? addsBos, bos: [bos], eos };
}

function mustBeAsLong(tokens: readonly string[], name: string, values: readonly number[]): void {
  if (values.length === tokens.length) return;
  const wanted = `expected ${tokens.length} numbers, one for each of ${place}.tokens`;
  broken(`${place}.${name}`, `${wanted}, got ${values.length}`);
}
