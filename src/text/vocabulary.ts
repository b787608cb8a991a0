/** What every source of a tokenizer is brought to: pieces, merges and the rules of cutting a text into words. */
import { InputError } from "../base/errors.ts";

/**
 * normal: made by merging; byte: one byte that no piece covers (`<0x0A>`); control: never from a user's text, adds no
 * text; unknown: what stands for a character that nothing covers; user-defined: found in any text before merging.
 */
export type Kind = "normal" | "byte" | "control" | "unknown" | "user-defined";

/** Kinds by SentencePiece's numbers, which GGUF took over. 5 is a piece that is never used. */
export const kindsByNumber: readonly Kind[] = [
  "normal",
  "normal",
  "unknown",
  "control",
  "user-defined",
  "control",
  "byte",
];

/** Two neighbours become one; lower ranks go first, equal ranks from left to right. */
export interface Merge {
  readonly left: number;
  readonly right: number;
  readonly rank: number;
  readonly result: number;
}

/** A `normalizer` or `pre_tokenizer` in the form of Hugging Face's `tokenizer.json`. */
export type Form = Readonly<Record<string, unknown>> | null;

/** White space beside a special token that belongs to the token (`lstrip`, `rstrip` of `tokenizer.json`). */
export interface Trim {
  readonly left: boolean;
  readonly right: boolean;
}

export interface Vocabulary {
  /** Own spelling, by id. */
  readonly pieces: readonly string[];
  readonly kinds: readonly Kind[];
  /** Normal pieces are spelled in GPT-2's letters for bytes, or in characters with ▁ for a space. */
  readonly alphabet: "bytes" | "characters";
  readonly merges: readonly Merge[];
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

/** Ids of the pieces of some kinds, by spelling. */
export function idsOf(
  { pieces, kinds }: Pick<Vocabulary, "pieces" | "kinds">,
  ...wanted: readonly Kind[]
): Map<string, number> {
  const ids = new Map<string, number>();
  for (let id = pieces.length - 1; id >= 0; id--)
    if (wanted.includes(kinds[id])) ids.set(pieces[id], id);
  return ids;
}

/** "Ġ t" → ["Ġ", "t"]; neither side holds a space. */
export function splitPair(pair: string): [string, string] {
  const at = pair.indexOf(" ", 1);
  return at < 0 ? [pair, ""] : [pair.slice(0, at), pair.slice(at + 1)];
}

/** Merges of a list of pairs, the first pair first. */
export function mergesInOrder(
  pairs: readonly (readonly [string, string])[],
  ids: ReadonlyMap<string, number>,
  where: string,
): Merge[] {
  return pairs.map(([first, second], rank) => {
    const [left, right, result] = [ids.get(first), ids.get(second), ids.get(first + second)];
    if (left === undefined || right === undefined || result === undefined)
      throw new InputError(
        "broken-vocabulary",
        `${where}[${rank}]: merge of ${JSON.stringify(first)} and ${JSON.stringify(second)}: these two and their union must be pieces of the vocabulary`,
        { where, rank },
      );
    return { left, right, rank, result };
  });
}

/**
 * Merges of a vocabulary that ranks its pieces instead: any two neighbours merge whose union is a piece, the best piece
 * first. `ids` are the pieces that take part.
 */
export function mergesByRank(
  ids: ReadonlyMap<string, number>,
  rankOf: (id: number) => number,
): Merge[] {
  const merges: Merge[] = [];
  for (const [piece, result] of ids)
    for (let cut = 1; cut < piece.length; cut++) {
      const left = ids.get(piece.slice(0, cut));
      if (left === undefined) continue;
      const right = ids.get(piece.slice(cut));
      if (right !== undefined) merges.push({ left, right, rank: rankOf(result), result });
    }
  return merges;
}
