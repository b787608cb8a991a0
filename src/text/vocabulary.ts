/** What every source of a tokenizer is brought to: pieces, merges and the rules of cutting a text into words. */
import type { Json } from "../base/json.ts";
import { broken } from "./door.ts";

/**
 * normal: made by merging; byte: one byte that no piece covers (`<0x0A>`); control: never from a user's text, adds no
 * text; unknown: what stands for a character that nothing covers; user-defined: found in any text before merging.
 */
export type Kind = "normal" | "byte" | "control" | "unknown" | "user-defined";

/** Kinds by SentencePiece's numbers, which GGUF took over. 5 is a piece that is never used. */
const kinds = "normal normal unknown control user-defined control byte".split(" ") as Kind[];
export const kindOf = (number: number): Kind => kinds[number] ?? "normal";

export type Ids = ReadonlyMap<string, number>;

/**
 * [count, 4]: ids of two neighbours, `left` and `right`, their rank, and the id of what they become. Lower ranks go
 * first, equal ranks from left to right.
 */
export type Merges = readonly number[];

/** An id, or the spelling of a special piece; undefined where a file says nothing. */
export type Token = number | string | undefined;

export interface Vocabulary {
  /** Own spelling, by id. */
  readonly pieces: readonly string[];
  readonly kinds: readonly Kind[];
  /** Normal pieces are spelled in GPT-2's letters for bytes, or in characters with ▁ for a space. */
  readonly alphabet: "bytes" | "characters";
  /** The merges of the normal pieces. */
  merges(normal: Ids): Merges;
  /** Whether a word that is itself a piece is taken as it is, whatever the merges say. */
  readonly wholeWords?: boolean;
  /** As in Hugging Face's `tokenizer.json`. */
  readonly normalizers?: readonly Json[];
  /** The same, or patterns (Oniguruma's syntax): each match is a word. */
  readonly preTokenizers?: readonly (Json | string)[];
  /** Whether decoding takes away one space in front, which encoding had put there. */
  readonly stripsSpace?: boolean;
  /** Whether white space beside a special token belongs to the token (names of `tokenizer.json`). */
  readonly trims?: ReadonlyMap<number, { readonly lstrip: boolean; readonly rstrip: boolean }>;
  readonly addsBos: boolean;
  /** The first that the vocabulary knows. */
  readonly bos: readonly Token[];
  readonly eos: readonly Token[];
}

/** How a text becomes pieces. */
export type Rules = Omit<Vocabulary, "pieces" | "kinds" | "addsBos" | "bos" | "eos">;

/** Ids of the pieces of some kinds, by spelling; of equal spellings the lowest. */
export function idsOf({ pieces, kinds }: Vocabulary, ...wanted: readonly Kind[]): Ids {
  const ids = new Map<string, number>();
  for (let id = pieces.length - 1; id >= 0; id--)
    if (wanted.includes(kinds[id])) ids.set(pieces[id], id);
  return ids;
}

/** Merges of a list of pairs, "Ġ t" or ["Ġ", "t"], the first pair first. */
export const mergesInOrder =
  (pairs: readonly (string | readonly string[])[], where: string) =>
  (ids: Ids): Merges =>
    pairs.flatMap((pair, rank) => {
      const [first, second] = typeof pair === "string" ? halves(pair) : pair;
      const merge = [ids.get(first), ids.get(second), rank, ids.get(first + second)];
      if (merge.every((number) => number !== undefined)) return merge;
      const both = `${JSON.stringify(first)} and ${JSON.stringify(second)}`;
      const problem = `merge of ${both}: these two and their union must be pieces of the vocabulary`;
      return broken(`${where}[${rank}]`, problem);
    });

/** "Ġ t" → ["Ġ", "t"]; neither side holds a space. */
function halves(pair: string): readonly string[] {
  const at = pair.indexOf(" ", 1);
  return at < 0 ? [pair, ""] : [pair.slice(0, at), pair.slice(at + 1)];
}

/** Merges of a vocabulary that ranks its pieces instead: any two neighbours whose union is a piece, the best piece first. */
export const mergesByRank =
  (rankOf: (id: number) => number) =>
  (ids: Ids): Merges => {
    const merges: number[] = [];
    for (const [piece, result] of ids)
      for (let cut = 1; cut < piece.length; cut++) {
        const left = ids.get(piece.slice(0, cut));
        const right = left === undefined ? undefined : ids.get(piece.slice(cut));
        if (left !== undefined && right !== undefined)
          merges.push(left, right, rankOf(result), result);
      }
    return merges;
  };
