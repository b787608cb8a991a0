/** The vocabulary of a GGUF file: byte-level BPE (`gpt2`) or SentencePiece with scores (`llama`). */
import { UnsupportedError } from "../base/errors.ts";
import { broken, id, list, numbers, optional, record, type Read, text, yesOrNo } from "./door.ts";
import { scoredVocabulary } from "./sentencepiece.ts";
import { idsOf, type Kind, kindOf, mergesInOrder, type Vocabulary } from "./vocabulary.ts";
import { patterns, sequenceForm, splitForm } from "./words.ts";

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
const maybeId = optional(id, undefined);
const readCommon = record({
  tokens: list(text),
  token_type: optional(numbers, undefined),
  add_bos_token: optional(yesOrNo, undefined),
  bos_token_id: maybeId,
  eos_token_id: maybeId,
  eot_token_id: maybeId,
  eom_token_id: maybeId,
});
const readByteLevel = record({
  pre: entryOf("pre-tokenizer", preTokenizers, Object.keys(preTokenizers).join(", ")),
  merges: list(text),
});
const readScored = record({ scores: numbers, add_space_prefix: optional(yesOrNo, true) });

const models = { gpt2: byteLevel, llama: sentencePiece };
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

function byteLevel(values: unknown): Vocabulary {
  const { pre, merges } = readByteLevel(values, place);
  const common = commonOf(values, false);
  const normal = idsOf(common, "normal");
  return {
    ...common,
    normal,
    alphabet: "bytes",
    merges: mergesInOrder(merges, normal, `${place}.merges`),
    wholeWords: pre.wholeWords,
    normalizer: null,
    preTokenizer: sequenceForm(pre.patterns.map(splitForm)),
    stripsSpace: false,
    trims: new Map(),
  };
}

function sentencePiece(values: unknown): Vocabulary {
  const { scores, add_space_prefix: prefix } = readScored(values, place);
  const common = commonOf(values, true);
  mustBeAsLong(common.pieces, "scores", scores);
  return { ...common, ...scoredVocabulary(common, scores, prefix) };
}

type Common = Pick<Vocabulary, "pieces" | "kinds" | "addsBos" | "bos" | "eos">;

function commonOf(values: unknown, addsBos: boolean): Common {
  const given = readCommon(values, place);
  const { tokens, token_type: types } = given;
  if (types) mustBeAsLong(tokens, "token_type", types);
  const idOf = (name: "bos_token_id" | "eos_token_id" | "eot_token_id" | "eom_token_id") => {
    const id = given[name];
    if (id === undefined || id < tokens.length) return id;
    const problem = `token id ${id} is outside the vocabulary of ${tokens.length} tokens`;
    return broken(`${place}.${name}`, problem);
  };
  const ending = [idOf("eos_token_id"), idOf("eot_token_id"), idOf("eom_token_id")];
  return {
    pieces: tokens,
    kinds: tokens.map((_, id): Kind => (types ? kindOf(types[id]) : "normal")),
    addsBos: given.add_bos_token ?? addsBos,
    bos: idOf("bos_token_id"),
    eos: [...new Set(ending.filter((id) => id !== undefined))],
  };
}

function mustBeAsLong(tokens: readonly string[], name: string, values: ArrayLike<number>): void {
  if (values.length === tokens.length) return;
  const wanted = `expected ${tokens.length} numbers, one for each of ${place}.tokens`;
  broken(`${place}.${name}`, `${wanted}, got ${values.length}`);
}
