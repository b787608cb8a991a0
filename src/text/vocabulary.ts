/** What every source of a tokenizer is brought to: pieces, merges and the rules of cutting a text into words. */
import { broken, type Json } from "./door.ts";

/**
 * normal: made by merging; byte: one byte that no piece covers (`<0x0A>`); control: never from a user's text, adds no
 * text; unknown: what stands for a character that nothing covers; user-defined: found in any text before merging.
 */
export type Kind = "normal" | "byte" | "control" | "unknown" | "user-defined";

/** Kinds by SentencePiece's numbers, which GGUF took over. 5 is a piece that is never used. */
const kinds = "normal normal unknown control user-defined control byte".split(" ") as Kind[];
export const kindOf = (number: number): Kind => kinds[number] ?? "normal";

/** A `normalizer` or `pre_tokenizer` in the form of Hugging Face's `tokenizer.json`. */
export type Form = Json | null;

/** White space beside a special token that belongs to the token (`lstrip`, `rstrip` of `tokenizer.json`). */
export interface Trim {
  readonly lstrip: boolean;
  readonly rstrip: boolean;
}

/**
 * [count, 4]: ids `left` and `right` that become one when they are neighbours, their rank, and the id of what they become.
 * Lower ranks go first, equal ranks from left to right.
 */
export type Merges = readonly number[];

export interface Vocabulary {
  /** Own spelling, by id. */
  readonly pieces: readonly string[];
  readonly kinds: readonly Kind[];
  /** Ids of the normal pieces. */
  readonly normal: ReadonlyMap<string, number>;
  /** Normal pieces are spelled in GPT-2's letters for bytes, or in characters with ▁ for a space. */
  readonly alphabet: "bytes" | "characters";
  readonly merges: Merges;
  /** Whether a word that is itself a piece is taken as it is, whatever the merges say. */
  readonly wholeWords: boolean;
  readonly normalizer: Form;
  readonly preTokenizer: Form;
  /** Whether decoding takes away one space in front, which encoding had put there. */
  readonly stripsSpace: boolean;
  readonly trims: ReadonlyMap<number, Trim>;
  readonly addsBos: boolean;
  readonly bos: number | undefined;
  readonly eos: readonly number[];
}

type Pieces = Pick<Vocabulary, "pieces" | "kinds">;

/** Ids of the pieces of some kinds, by spelling; of equal spellings the lowest. */
export function idsOf({ pieces, kinds }: Pieces, ...wanted: readonly Kind[]): Map<string, number> {
  const ids = new Map<string, number>();
  for (let id = pieces.length - 1; id >= 0; id--)
    if (wanted.includes(kinds[id])) ids.set(pieces[id], id);
  return ids;
}

/** Merges of a list of pairs, "Ġ t" or ["Ġ", "t"], the first pair first. */
export function mergesInOrder(
  pairs: readonly (string | readonly string[])[],
  ids: ReadonlyMap<string, number>,
  where: string,
): Merges {
  const merges: number[] = [];
  for (let rank = 0; rank < pairs.length; rank++) {
    const pair = pairs[rank];
    const [first, second = ""] = typeof pair === "string" ? pair.split(" ", 2) : pair;
    const left = ids.get(first);
    const right = ids.get(second);
    const result = ids.get(first + second);
    if (left === undefined || right === undefined || result === undefined)
      broken(
        `${where}[${rank}]`,
        `merge of ${JSON.stringify(first)} and ${JSON.stringify(second)}: these two and their union must be pieces of the vocabulary`,
      );
    merges.push(left, right, rank, result);
  }
  return merges;
}

/**
 * Merges of a vocabulary that ranks its pieces instead: any two neighbours merge whose union is a piece, the best piece
 * first. `ids` are the pieces that take part.
 */
export function mergesByRank(
  ids: ReadonlyMap<string, number>,
  rankOf: (id: number) => number,
): Merges {
  const merges: number[] = [];
  for (const [piece, result] of ids)
    for (let cut = 1; cut < piece.length; cut++) {
      const left = ids.get(piece.slice(0, cut));
      if (left === undefined) continue;
      const right = ids.get(piece.slice(cut));
      if (right !== undefined) merges.push(left, right, rankOf(result), result);
    }
  return merges;
}
