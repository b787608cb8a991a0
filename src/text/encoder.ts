/** Text to ids: special pieces are taken out, what is between them is normalised and cut into words, and words are merged. */
import { InputError, messageOf } from "../base/errors.ts";
import { byteLetters, byteOfPiece, spell } from "./byte-alphabet.ts";
import { merge, PairTable } from "./merging.ts";
import { SpecialPieces, unquote } from "./special-pieces.ts";
import type { Tokenizer } from "./tokenizer.ts";
import { type Ids, idsOf, type Vocabulary } from "./vocabulary.ts";
import { libraryParts, type Parts } from "./words.ts";

const rememberedWords = 20_000;
const rememberedUnits = 64; // words longer than this are rare and would make the memory large
const utf8 = new TextEncoder();
const nothing = new SpecialPieces(new Map());

export function encoderOf(vocabulary: Vocabulary): Pick<Tokenizer, "encode" | "quote"> {
  const { trims, alphabet } = vocabulary;
  const control = new SpecialPieces(idsOf(vocabulary, "control", "unknown"), trims);
  const userDefined = [...idsOf(vocabulary, "user-defined")].map(
    ([piece, id]) => [alphabet === "bytes" ? piece : piece.replaceAll(" ", "▁"), id] as const,
  );
  const defined = new SpecialPieces(new Map(userDefined), trims);
  const normal = idsOf(vocabulary, "normal");
  const { normalizer, pre_tokenizer } = libraryParts(vocabulary);
  const cut = wordCutter(vocabulary, normal, pre_tokenizer);
  const encodeWord = wordEncoder(vocabulary, normal);
  return {
    quote: (text) => control.quote(text),
    encode: (text, { special = false } = {}) =>
      (special ? control : nothing).encode(text, (stretch, section) => {
        const unquoted = special === "unquoted" ? unquote(stretch) : stretch;
        const normalised = normalizer(unquoted.toWellFormed()); // a lone surrogate becomes U+FFFD
        return defined.encode(normalised, (part) => cut(part, section).flatMap(encodeWord));
      }),
  };
}

/** Cuts a normalised stretch of text into the words that are merged one by one. */
function wordCutter({ alphabet }: Vocabulary, normal: Ids, pre_tokenizer: Parts["pre_tokenizer"]) {
  /** No piece goes on over a space, so a text may be cut in front of spaces: short words, which can be remembered. */
  const cutsAtSpaces =
    alphabet === "characters" && ![...normal.keys()].some((piece) => /[^▁]▁/u.test(piece));
  return (text: string, section_index: number): readonly string[] => {
    try {
      const words = pre_tokenizer(text, { section_index });
      return cutsAtSpaces ? words.flatMap((word) => word.split(/(?<=[^▁])(?=▁)/u)) : words;
    } catch (cause) {
      const { length } = text;
      const problem = `a text of ${length} characters cannot be cut into words: ${messageOf(cause)}`;
      throw new InputError("text-too-long", problem, { length }, { cause });
    }
  };
}

/** Words to ids; what was made of a word is remembered. */
function wordEncoder(vocabulary: Vocabulary, normal: Ids) {
  const { alphabet, wholeWords } = vocabulary;
  const isBytes = alphabet === "bytes";
  const pairs = new PairTable(vocabulary.merges(normal));
  const byteIds = byteLetters.map((letter) => (isBytes ? normal.get(letter) : undefined));
  for (const [piece, id] of idsOf(vocabulary, "byte")) byteIds[byteOfPiece(piece)] = id;
  const idsOfBytes = (text: string) => Array.from(utf8.encode(text), (byte) => byteIds[byte]);
  const [unknown] = idsOf(vocabulary, "unknown").values();

  /** The smallest symbols of a word. */
  const symbolsOf = (word: string): number[] => {
    // A byte that the vocabulary lacks vanishes and its neighbours meet, as in Hugging Face tokenizers.
    if (isBytes) return idsOfBytes(word).filter((id) => id !== undefined);
    const symbols: number[] = [];
    for (const character of word) {
      const id = normal.get(character);
      // A character that is no piece becomes its bytes, or else one unknown token for all such neighbours.
      const ids = id === undefined ? idsOfBytes(character) : [id];
      if (ids.every((id) => id !== undefined)) symbols.push(...ids);
      else if (unknown !== undefined && symbols.at(-1) !== unknown) symbols.push(unknown);
    }
    return symbols;
  };
  const spelled = (word: string): string => (isBytes ? spell(utf8.encode(word)) : word);
  const remembered = new Map<string, readonly number[]>();
  return (word: string): readonly number[] => {
    const known = remembered.get(word);
    if (known) return known;
    const whole = wholeWords ? normal.get(spelled(word)) : undefined;
    const ids = whole === undefined ? merge(symbolsOf(word), pairs) : [whole];
    if (remembered.size >= rememberedWords) remembered.clear();
    if (word.length <= rememberedUnits) remembered.set(word, ids);
    return ids;
  };
}
