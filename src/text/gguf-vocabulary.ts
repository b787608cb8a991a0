/** The vocabulary of a GGUF file: byte-level BPE (`gpt2`) or SentencePiece with scores (`llama`). */
import * as door from "./door.ts";
import { scored } from "./sentencepiece.ts";
import { type Kind, kindOf, mergesInOrder, type Vocabulary } from "./vocabulary.ts";
import { patterns } from "./words.ts";

const { broken, flag, id, list, number, optional, text, unsupported } = door;

/** How text is cut into words, by `tokenizer.ggml.pre`. */
const rulesOf = new Map([
  ["gpt-2", { preTokenizers: [patterns["gpt-2"]], wholeWords: false }],
  ["llama-bpe", { preTokenizers: [patterns["llama-bpe"]], wholeWords: true }],
  ["smollm", { preTokenizers: [patterns.digit, patterns["gpt-2"]], wholeWords: false }],
  ["tekken", { preTokenizers: [patterns.tekken], wholeWords: true }],
]);

const at = (name: string): string => `tokenizer.ggml.${name}`;

/** The value of a key behind `tokenizer.ggml.`, as it is asked for. */
type Get = <T>(name: string, read: door.Read<T>) => T;

export function ggufVocabulary(metadata: ReadonlyMap<string, unknown>): Vocabulary {
  const get: Get = (name, read) => read(metadata.get(at(name)), at(name));
  const model = get("model", text);
  if (model === "gpt2") return bytePairs(get);
  if (model === "llama") return sentencePiece(get);
  const known = '"gpt2" (byte-level BPE) and "llama" (SentencePiece BPE)';
  return unsupported(at("model"), `is "${model}"; supported are ${known}`, "tokenizer-model");
}

function bytePairs(get: Get): Vocabulary {
  const pre = get("pre", optional(text, "(none)"));
  const merges = mergesInOrder(get("merges", list(text)), at("merges"));
  const rules = rulesOf.get(pre);
  const known = [...rulesOf.keys()].join(", ");
  if (!rules) return unsupported(at("pre"), `is "${pre}"; supported are ${known}`, "pre-tokenizer");
  return { ...commonOf(get, false), ...rules, alphabet: "bytes", merges };
}

function sentencePiece(get: Get): Vocabulary {
  const common = commonOf(get, true);
  const scores = get("scores", numbersFor(common.pieces));
  return { ...common, ...scored(scores, get("add_space_prefix", optional(flag, true))) };
}

function commonOf(get: Get, addsBos: boolean) {
  const pieces = get("tokens", list(text));
  const types = get("token_type", optional(numbersFor(pieces), undefined));
  const inside = (value: unknown, where: string): number => {
    const given = id(value, where);
    if (given < pieces.length) return given;
    return broken(where, `token id ${given} is outside the vocabulary of ${pieces.length} tokens`);
  };
  const [bos, ...eos] = ["bos_token_id", "eos_token_id", "eot_token_id", "eom_token_id"].map(
    (name) => get(name, optional(inside, undefined)),
  );
  return {
    pieces,
    kinds: types?.map(kindOf) ?? pieces.map((): Kind => "normal"),
    addsBos: get("add_bos_token", optional(flag, addsBos)),
    bos: [bos],
    eos,
  };
}

/** A number for each piece. */
const numbersFor =
  ({ length }: readonly string[]): door.Read<readonly number[]> =>
  (value, where) => {
    const numbers = list(number)(value, where);
    if (numbers.length === length) return numbers;
    const wanted = `expected ${length} numbers, one for each of ${at("tokens")}`;
    return broken(where, `${wanted}, got ${numbers.length}`);
  };
