/** The vocabulary of a GGUF file: byte-level BPE (`gpt2`) or SentencePiece with scores (`llama`). */
import { UnsupportedError } from "../base/errors.ts";
import {
  broken,
  id,
  list,
  numbers,
  optional,
  type Json,
  record,
  type Read,
  text,
  yesOrNo,
} from "./door.ts";
import { scored } from "./sentencepiece.ts";
import { byteLevel, type Kind, kindOf, mergesInOrder, type Vocabulary } from "./vocabulary.ts";
import { patterns } from "./words.ts";

/** How text is cut into words, by `tokenizer.ggml.pre`. */
const preTokenizers = {
  "gpt-2": { patterns: [patterns["gpt-2"]], wholeWords: false },
  "llama-bpe": { patterns: [patterns["llama-bpe"]], wholeWords: true },
  smollm: { patterns: [patterns.digit, patterns["gpt-2"]], wholeWords: false },
  tekken: { patterns: [patterns.tekken], wholeWords: true },
};

/** The entry of a table that a text names. */
const entryOf =
  <T>(code: string, table: Readonly<Record<string, T>>, supported: string): Read<T> =>
  (value, where) => {
    const name = value === undefined || value === null ? "(none)" : text(value, where);
    if (Object.hasOwn(table, name)) return table[name];
    throw new UnsupportedError(code, `${where} is "${name}"; supported are ${supported}`, { name });
  };

const place = "tokenizer.ggml";
const readCommon = record({
  tokens: list(text),
  token_type: optional(numbers, undefined),
  add_bos_token: optional(yesOrNo, undefined),
});
const readByteLevel = record({
  pre: entryOf("pre-tokenizer", preTokenizers, Object.keys(preTokenizers).join(", ")),
  merges: list(text),
});
const readScored = record({ scores: numbers, add_space_prefix: optional(yesOrNo, true) });

const models = { gpt2: bytePairs, llama: sentencePiece };
const readModel = record({
  model: entryOf(
    "tokenizer-model",
    models,
    '"gpt2" (byte-level BPE) and "llama" (SentencePiece BPE)',
  ),
});

export function ggufVocabulary(metadata: ReadonlyMap<string, unknown>): Vocabulary {
  const ours = [...metadata].filter(([key]) => key.startsWith(`${place}.`));
  const values = Object.fromEntries(
    ours.map(([key, value]) => [key.slice(place.length + 1), value]),
  );
  return readModel(values, place).model(values);
}

function bytePairs(values: Json): Vocabulary {
  const { pre, merges } = readByteLevel(values, place);
  return {
    ...byteLevel,
    ...commonOf(values, false),
    merges: mergesInOrder(merges, `${place}.merges`),
    wholeWords: pre.wholeWords,
    preTokenizers: pre.patterns,
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

function mustBeAsLong(tokens: readonly string[], name: string, values: ArrayLike<number>): void {
  if (values.length === tokens.length) return;
  const wanted = `expected ${tokens.length} numbers, one for each of ${place}.tokens`;
  broken(`${place}.${name}`, `${wanted}, got ${values.length}`);
}
