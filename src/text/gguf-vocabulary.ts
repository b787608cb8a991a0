/** The vocabulary of a GGUF file: byte-level BPE (`gpt2`) or SentencePiece with scores (`llama`). */
import { broken, flag, id, list, number, optional, text, unsupported, type Read } from "./door.ts";
import { scored } from "./sentencepiece.ts";
import { type Kind, kindOf, mergesInOrder, type Rules, type Vocabulary } from "./vocabulary.ts";
import { patterns } from "./words.ts";

/** How text is cut into words, by `tokenizer.ggml.pre`. */
const rulesOf = new Map([
  ["gpt-2", { preTokenizers: [patterns["gpt-2"]], wholeWords: false }],
  ["llama-bpe", { preTokenizers: [patterns["llama-bpe"]], wholeWords: true }],
  ["smollm", { preTokenizers: [patterns.digit, patterns["gpt-2"]], wholeWords: false }],
  ["tekken", { preTokenizers: [patterns.tekken], wholeWords: true }],
]);

const at = (name: string): string => `tokenizer.ggml.${name}`;

/** The value of a key behind `tokenizer.ggml.`, as it is asked for. */
type Get = <T>(name: string, read: Read<T>) => T;

export function ggufVocabulary(metadata: ReadonlyMap<string, unknown>): Vocabulary {
  const get: Get = (name, read) => read(metadata.get(at(name)), at(name));
  const model = get("model", text);
  const known = '"gpt2" (byte-level BPE) and "llama" (SentencePiece BPE)';
  if (model !== "gpt2" && model !== "llama")
    unsupported(at("model"), `is "${model}"; supported are ${known}`, "tokenizer-model");
  const isSentencePiece = model === "llama";
  const pieces = get("tokens", list(text));
  const types = get("token_type", optional(numbersFor(pieces), undefined));
  const inside = (value: unknown, where: string): number => {
    const given = id(value, where);
    if (given < pieces.length) return given;
    return broken(where, `token id ${given} is outside the vocabulary of ${pieces.length} tokens`);
  };
  const [bos, ...eos] = ["bos", "eos", "eot", "eom"].map((name) =>
    get(`${name}_token_id`, optional(inside, undefined)),
  );
  return {
    ...(isSentencePiece ? sentencePiece(get, pieces) : bytePairs(get)),
    pieces,
    kinds: types?.map(kindOf) ?? pieces.map((): Kind => "normal"),
    addsBos: get("add_bos_token", optional(flag, isSentencePiece)),
    bos: [bos],
    eos,
  };
}

function bytePairs(get: Get): Rules {
  const pre = get("pre", optional(text, "(none)"));
  const rules = rulesOf.get(pre);
  const known = [...rulesOf.keys()].join(", ");
  if (!rules) return unsupported(at("pre"), `is "${pre}"; supported are ${known}`, "pre-tokenizer");
  const merges = mergesInOrder(get("merges", list(text)), at("merges"));
  return { ...rules, alphabet: "bytes", merges };
}

const sentencePiece = (get: Get, pieces: readonly string[]): Rules =>
  scored(get("scores", numbersFor(pieces)), get("add_space_prefix", optional(flag, true)));

/** A number for each piece. */
const numbersFor =
  ({ length }: readonly string[]): Read<readonly number[]> =>
  (value, where) => {
    const numbers = list(number)(value, where);
    if (numbers.length === length) return numbers;
    const wanted = `expected ${length} numbers, one for each of ${at("tokens")}`;
    return broken(where, `${wanted}, got ${numbers.length}`);
  };
