/** Cuts a text into the words that are merged one by one; normalisation and patterns are Hugging Face's library's. */
import { Tokenizer as Library } from "@huggingface/tokenizers";
import { InputError, messageOf, UnsupportedError } from "../base/errors.ts";
import type { Json } from "./door.ts";
import type { Ids, Vocabulary } from "./vocabulary.ts";

/** The library's parts that we call; its merging is left aside: 1 MB of spaces takes it 18 s. */
interface Parts {
  normalizer(text: string): string;
  pre_tokenizer(text: string, at: { section_index: number }): string[];
}

const { raw } = String;

/** Patterns by the names that GGUF gives them; `digit` is a part of some. */
export const patterns: Readonly<Record<"gpt-2" | "llama-bpe" | "tekken" | "digit", string>> = {
  "gpt-2": raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
  "llama-bpe": raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  tekken: raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  digit: raw`\p{N}`,
};

export interface Words {
  normalize(text: string): string;
  /** Words of a normalised stretch of text; `section` counts the stretches between special tokens. */
  cut(text: string, section: number): readonly string[];
}

export function wordsOf(vocabulary: Vocabulary, normal: Ids): Words {
  const parts = libraryParts(vocabulary);
  /** No piece goes on over a space, so a text may be cut in front of spaces: short words, which can be remembered. */
  const cutsAtSpaces =
    vocabulary.alphabet === "characters" &&
    ![...normal.keys()].some((piece) => /[^▁]▁/u.test(piece));
  return {
    normalize: (text) => parts.normalizer(text),
    cut(text, section) {
      try {
        const words = parts.pre_tokenizer(text, { section_index: section });
        return cutsAtSpaces ? words.flatMap((word) => word.split(/(?<=[^▁])(?=▁)/u)) : words;
      } catch (cause) {
        const { length } = text;
        const problem = `a text of ${length} characters cannot be cut into words`;
        throw new InputError(
          "text-too-long",
          `${problem}: ${messageOf(cause)}`,
          { length },
          { cause },
        );
      }
    },
  };
}

/** A pre-tokenizer that makes each match of a pattern a word of its own. */
const isolating = (pattern: string): Json => {
  return { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
};

function libraryParts({ normalizers, preTokenizers }: Vocabulary): Parts {
  const pretokenizers = preTokenizers.map((form) =>
    typeof form === "string" ? isolating(form) : form,
  );
  const json = {
    normalizer: { type: "Sequence", normalizers },
    pre_tokenizer: { type: "Sequence", pretokenizers },
    model: { type: "BPE", vocab: {}, merges: [] },
    added_tokens: [],
    post_processor: null,
    decoder: null,
  };
  try {
    return new Library(json, {}) as unknown as Parts;
  } catch (cause) {
    const problem = "the tokenizer's normalizer or pre_tokenizer is not supported";
    const rules = { normalizers, preTokenizers };
    throw new UnsupportedError("tokenizer-rules", `${problem}: ${messageOf(cause)}`, rules, {
      cause,
    });
  }
}
