/** Ids of one word: its smallest symbols, merged. */
import { byteOfPiece, spell } from "./byte-alphabet.ts";
import { merge, PairTable } from "./merging.ts";
import { idsOf, type Vocabulary } from "./vocabulary.ts";

const rememberedWords = 20_000;
const rememberedUnits = 64; // words longer than this are rare and would make the memory large
const utf8 = new TextEncoder();

export function wordEncoder(vocabulary: Vocabulary): (word: string) => readonly number[] {
  const { alphabet, normal, wholeWords } = vocabulary;
  const pairs = new PairTable(vocabulary.merges);
  const symbolsOf = speller(vocabulary);
  const remembered = new Map<string, readonly number[]>();

  const encode = (word: string): readonly number[] => {
    const spelled = alphabet === "bytes" ? spell(utf8.encode(word)) : word;
    const whole = wholeWords ? normal.get(spelled) : undefined;
    return whole === undefined ? merge(symbolsOf(spelled), pairs) : [whole];
  };
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

/** Ids of the letters or characters of a word. */
function speller(vocabulary: Vocabulary): (spelled: string) => number[] {
  const { alphabet, normal } = vocabulary;
  const byteIds = new Map<number, number>();
  for (const [piece, id] of idsOf(vocabulary, "byte")) byteIds.set(byteOfPiece(piece), id);
  const [unknown] = idsOf(vocabulary, "unknown").values();

  /** A character that is no piece becomes its bytes, or else one unknown token for all such neighbours. */
  const fallBack = (character: string, symbols: number[]): void => {
    const ids = Array.from(utf8.encode(character), (byte) => byteIds.get(byte));
    if (ids.every((id) => id !== undefined)) symbols.push(...ids);
    else if (unknown !== undefined && symbols.at(-1) !== unknown) symbols.push(unknown);
  };
  return (spelled) => {
    const symbols: number[] = [];
    for (const character of spelled) {
      const id = normal.get(character);
      if (id !== undefined) symbols.push(id);
      else if (alphabet === "characters") fallBack(character, symbols);
      // else a byte that the vocabulary lacks: it vanishes, its neighbours meet, as in Hugging Face tokenizers
    }
    return symbols;
  };
}
