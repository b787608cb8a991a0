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

export function encoderOf(vocabulary: Vocabulary): Pick<Tokenizer, "encode" | "quote"> {
  const { trims, alphabet } = vocabulary;
  const control = new SpecialPieces(idsOf(vocabulary, "control", "unknown"), trims);
  const userDefined = [...idsOf(vocabulary, "user-defined")].map(
    ([piece, id]) => [alphabet === "bytes" ? piece : piece.replaceAll(" ", "▁"), id] as const,
  );
  const defined = new SpecialPieces(new Map(userDefined), trims);
  const normal = idsOf(vocabulary, "normal");
  const library = libraryParts(vocabulary);
  const cut = wordCutter(vocabulary, normal, library);
  const encodeWord = remembering(wordEncoder(vocabulary, normal));

  /** A lone surrogate has no UTF-8; it becomes U+FFFD. */
  const encodeSection = (text: string, section: number, ids: number[]): void => {
    for (const part of defined.split(library.normalizer(text.toWellFormed())))
      if (typeof part === "number") ids.push(part);
      else for (const word of cut(part, section)) for (const id of encodeWord(word)) ids.push(id);
  };
  return {
    quote: (text) => control.quote(text),
    encode(text, { special = false } = {}) {
      const ids: number[] = [];
      const sections = special ? control.split(text) : text === "" ? [] : [text];
      sections.forEach((section, index) => {
        if (typeof section === "number") ids.push(section);
        else encodeSection(special === "unquoted" ? unquote(section) : section, index, ids);
      });
      return ids;
    },
  };
}

/** Cuts a normalised stretch of text into the words that are merged one by one. */
function wordCutter({ alphabet }: Vocabulary, normal: Ids, { pre_tokenizer }: Parts) {
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

type EncodeWord = (word: string) => readonly number[];

function remembering(encode: EncodeWord): EncodeWord {
  const remembered = new Map<string, readonly number[]>();
  return (word) => {
    const known = remembered.get(word);
    if (known) return known;
    const ids = encode(word);
    if (word.length > rememberedUnits) return ids;
    if (remembered.size >= rememberedWords) remembered.clear();
    remembered.set(word, ids);
    return ids;
  };
}

function wordEncoder(vocabulary: Vocabulary, normal: Ids): EncodeWord {
  const isBytes = vocabulary.alphabet === "bytes";
  const pairs = new PairTable(vocabulary.merges(normal));
  const symbolsOf = speller(vocabulary, normal);
  const wholeOf = (word: string): number | undefined =>
    normal.get(isBytes ? spell(utf8.encode(word)) : word);
  return (word) => {
    const whole = vocabulary.wholeWords ? wholeOf(word) : undefined;
    return whole === undefined ? merge(symbolsOf(word), pairs) : [whole];
  };
}

/** Gives the smallest symbols of a word. */
function speller(vocabulary: Vocabulary, normal: Ids): (word: string) => number[] {
  const isBytes = vocabulary.alphabet === "bytes";
  const byteIds = byteLetters.map((letter) => (isBytes ? normal.get(letter) : undefined));
  for (const [piece, id] of idsOf(vocabulary, "byte")) byteIds[byteOfPiece(piece)] = id;
  const idsOfBytes = (text: string) => Array.from(utf8.encode(text), (byte) => byteIds[byte]);
  // A byte that the vocabulary lacks vanishes and its neighbours meet, as in Hugging Face tokenizers.
  if (isBytes) return (word) => idsOfBytes(word).filter((id) => id !== undefined);

  const [unknown] = idsOf(vocabulary, "unknown").values();
  return (word) => {
    const symbols: number[] = [];
    for (const character of word) {
      const id = normal.get(character);
      const ids = id === undefined ? idsOfBytes(character) : undefined;
      // A character that is no piece becomes its bytes, or else one unknown token for all such neighbours.
      if (id !== undefined) symbols.push(id);
      else if (ids?.every((id) => id !== undefined)) symbols.push(...ids);
      else if (unknown !== undefined && symbols.at(-1) !== unknown) symbols.push(unknown);
    }
    return symbols;
  };
}
