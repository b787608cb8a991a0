/** The vocabulary of a GGUF file: byte-level BPE (`gpt2`) or SentencePiece with scores (`llama`). */
import { InputError, UnsupportedError } from "../base/errors.ts";
import {
  type Check,
  id,
  list,
  number,
  take,
  takeIds,
  takeOptional,
  text,
  yesOrNo,
} from "./door.ts";
import { mergesByScore } from "./sentencepiece.ts";
import { idsOf, kindsByNumber, mergesInOrder, splitPair, type Vocabulary } from "./vocabulary.ts";
import { patterns, sequenceForm, spacesForm, splitForm } from "./words.ts";

/** How text is cut into words, by `tokenizer.ggml.pre`. */
const preTokenizers = {
  "gpt-2": { patterns: [patterns["gpt-2"]], wholeWords: false },
  "llama-bpe": { patterns: [patterns["llama-bpe"]], wholeWords: true },
  smollm: { patterns: [patterns.digit, patterns["gpt-2"]], wholeWords: false },
  tekken: { patterns: [patterns.tekken], wholeWords: true },
} as const;

type Common = Omit<
  Vocabulary,
  "alphabet" | "merges" | "wholeWords" | "normalizer" | "preTokenizer" | "stripsSpace"
>;

/** Values of the keys `tokenizer.ggml.…`. */
class Keys {
  readonly #metadata: ReadonlyMap<string, unknown>;

  constructor(metadata: ReadonlyMap<string, unknown>) {
    this.#metadata = metadata;
  }

  get<T>(name: string, check: Check<T>): T | undefined {
    return takeOptional(this.#metadata.get(key(name)), check, key(name));
  }

  need<T>(name: string, check: Check<T>): T {
    return take(this.#metadata.get(key(name)), check, key(name));
  }
}

const key = (name: string): string => `tokenizer.ggml.${name}`;

export function ggufVocabulary(metadata: ReadonlyMap<string, unknown>): Vocabulary {
  const keys = new Keys(metadata);
  const model = keys.need("model", text);
  switch (model) {
    case "gpt2":
      return byteLevel(keys);
    case "llama":
      return sentencePiece(keys);
    default:
      throw new UnsupportedError(
        "tokenizer-model",
        `${key("model")} is "${model}"; supported are "gpt2" (byte-level BPE) and "llama" (SentencePiece BPE)`,
        { model },
      );
  }
}

function byteLevel(keys: Keys): Vocabulary {
  const pre = keys.get("pre", text) ?? "(none)";
  const rules = Object.entries(preTokenizers).find(([name]) => name === pre)?.[1];
  if (!rules)
    throw new UnsupportedError(
      "pre-tokenizer",
      `${key("pre")} is "${pre}"; supported are ${Object.keys(preTokenizers).join(", ")}`,
      { pre },
    );
  const common = commonOf(keys, false);
  const pairs = Array.from(keys.need("merges", list(text)), splitPair);
  return {
    ...common,
    alphabet: "bytes",
    merges: mergesInOrder(pairs, idsOf(common, "normal"), key("merges")),
    wholeWords: rules.wholeWords,
    normalizer: null,
    preTokenizer: sequenceForm(rules.patterns.map(splitForm)),
    stripsSpace: false,
  };
}

function sentencePiece(keys: Keys): Vocabulary {
  const common = commonOf(keys, true);
  const scores = keys.need("scores", list(number));
  mustBeAsLong(scores, "scores", common.pieces);
  const prefix = keys.get("add_space_prefix", yesOrNo) ?? true;
  return {
    ...common,
    alphabet: "characters",
    merges: mergesByScore(common, scores),
    wholeWords: false,
    normalizer: spacesForm(prefix),
    preTokenizer: null,
    stripsSpace: prefix,
  };
}

function commonOf(keys: Keys, addsBos: boolean): Common {
  const pieces = Array.from(keys.need("tokens", list(text)));
  const types = keys.get("token_type", list(number)) ?? pieces.map(() => 1);
  mustBeAsLong(types, "token_type", pieces);
  const kinds = Array.from(types, (type) => kindsByNumber[type] ?? "normal");
  const ending = ["eos_token_id", "eot_token_id", "eom_token_id"].map((name) => keys.get(name, id));
  const [bos] = takeIds([keys.get("bos_token_id", id)], pieces.length, key("bos_token_id"));
  return {
    pieces,
    kinds,
    trims: new Map(),
    addsBos: keys.get("add_bos_token", yesOrNo) ?? addsBos,
    bos,
    eos: [...new Set(takeIds(ending, pieces.length, key("eos_token_id")))],
  };
}

function mustBeAsLong(values: ArrayLike<number>, name: string, pieces: readonly string[]): void {
  if (values.length === pieces.length) return;
  throw new InputError(
    "broken-vocabulary",
    `${key(name)}: expected ${pieces.length} numbers, one for each of ${key("tokens")}, got ${values.length}`,
    { name, tokens: pieces.length, got: values.length },
  );
}
