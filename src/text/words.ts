/** The rules of normalising a text and cutting it into words, by Hugging Face's library. */
import { Tokenizer as Library } from "@huggingface/tokenizers";
import { messageOf, UnsupportedError } from "../base/errors.ts";
import type { Vocabulary } from "./vocabulary.ts";

/** The library's parts that we call; `section_index` counts the stretches between special tokens. Its merging is left aside: 1 MB of spaces takes it 18 s. */
export interface Parts {
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

export function libraryParts({ normalizers = [], preTokenizers = [] }: Vocabulary): Parts {
  const pretokenizers = preTokenizers.map((form) => {
    if (typeof form !== "string") return form;
    return { type: "Split", pattern: { Regex: form }, behavior: "Isolated", invert: false };
  });
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
    const told = `the tokenizer's normalizer or pre_tokenizer is not supported: ${messageOf(cause)}`;
    throw new UnsupportedError("tokenizer-rules", told, { normalizers, preTokenizers }, { cause });
  }
}
