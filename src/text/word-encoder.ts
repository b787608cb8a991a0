/** Ids of one word: its smallest symbols, merged. */
import { byteLetters, spell } from "./byte-alphabet.ts";
import { merge, PairTable } from "./merging.ts";
import { idsOf, type Vocabulary } from "./vocabulary.ts";

const rememberedWords = 20_000;
const rememberedUnits = 64; // words longer than this are rare and would make the memory large

export class WordEncoder {
  readonly #vocabulary: Vocabulary;
  readonly #ids: ReadonlyMap<string, number>; // normal pieces
  readonly #byteIds: readonly (number | undefined)[]; // [256]
  readonly #unknown: number | undefined;
  readonly #pairs: PairTable;
  readonly #remembered = new Map<string, readonly number[]>();
  readonly #utf8 = new TextEncoder();

  constructor(vocabulary: Vocabulary) {
    this.#vocabulary = vocabulary;
    this.#ids = idsOf(vocabulary, "normal");
    this.#byteIds = byteIdsOf(vocabulary, this.#ids);
    this.#unknown = idsOf(vocabulary, "unknown").values().next().value;
    this.#pairs = new PairTable(vocabulary.merges);
  }

  encode(word: string): readonly number[] {
    const known = this.#remembered.get(word);
    if (known) return known;
    const ids = this.#encode(word);
    if (word.length > rememberedUnits) return ids;
    if (this.#remembered.size >= rememberedWords) this.#remembered.clear();
    this.#remembered.set(word, ids);
    return ids;
  }

  #encode(word: string): readonly number[] {
    const { alphabet, wholeWords } = this.#vocabulary;
    const bytes = alphabet === "bytes" ? this.#utf8.encode(word) : undefined;
    const whole = wholeWords ? this.#ids.get(bytes ? spell(bytes) : word) : undefined;
    if (whole !== undefined) return [whole];
    return merge(bytes ? this.#bytes(bytes) : this.#characters(word), this.#pairs);
  }

  /** A byte that the vocabulary lacks vanishes and its neighbours meet, as in Hugging Face tokenizers. */
  #bytes(bytes: Uint8Array): number[] {
    const symbols: number[] = [];
    for (const byte of bytes) {
      const id = this.#byteIds[byte];
      if (id !== undefined) symbols.push(id);
    }
    return symbols;
  }

  #characters(word: string): number[] {
    const symbols: number[] = [];
    for (const character of word) {
      const id = this.#ids.get(character);
      if (id === undefined) this.#fallBack(character, symbols);
      else symbols.push(id);
    }
    return symbols;
  }

  /** A character that is no piece: its bytes, or else one unknown token for all such neighbours. */
  #fallBack(character: string, symbols: number[]): void {
    const ids: number[] = [];
    for (const byte of this.#utf8.encode(character)) {
      const id = this.#byteIds[byte];
      if (id !== undefined) ids.push(id);
      else if (this.#unknown === undefined || symbols.at(-1) === this.#unknown) return;
      else {
        symbols.push(this.#unknown);
        return;
      }
    }
    symbols.push(...ids);
  }
}

function byteIdsOf(
  vocabulary: Vocabulary,
  normal: ReadonlyMap<string, number>,
): (number | undefined)[] {
  if (vocabulary.alphabet === "bytes") return byteLetters.map((letter) => normal.get(letter));
  const byteIds: (number | undefined)[] = Array.from({ length: 256 });
  for (const [piece, id] of idsOf(vocabulary, "byte")) byteIds[byteOfPiece(piece)] = id;
  return byteIds;
}

/** `<0x0A>` → 10. */
export const byteOfPiece = (piece: string): number => Number.parseInt(piece.slice(3, 5), 16);

/** Whether a spelling is that of a byte piece. */
export const isBytePiece = (piece: string): boolean => /^<0x[0-9A-F]{2}>$/.test(piece);
