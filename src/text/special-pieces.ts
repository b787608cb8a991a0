/** Finds pieces that are taken out of a text before it is cut into words. */
import type { Ids, Vocabulary } from "./vocabulary.ts";

/** The longest piece that begins at a place wins, in time linear in the text. */
export class SpecialPieces {
  readonly #ids: Ids;
  readonly #trims: Vocabulary["trims"];
  /** Lengths of the pieces that begin with a UTF-16 unit, the longest first. */
  readonly #lengths = new Map<number, ReadonlySet<number>>();

  constructor(ids: Ids, trims?: Vocabulary["trims"]) {
    this.#ids = ids;
    this.#trims = trims;
    const longestFirst = [...ids.keys()].sort((a, b) => b.length - a.length);
    for (const [unit, pieces] of Map.groupBy(longestFirst, (piece) => piece.charCodeAt(0)))
      this.#lengths.set(unit, new Set(pieces.map(({ length }) => length)));
  }

  /** A text as ids: those of special pieces, and what `encode` makes of the stretches between them. */
  encode(text: string, encode: (stretch: string, part: number) => readonly number[]): number[] {
    const parts: (number | string)[] = [];
    let start = 0;
    for (let at = 0; at < text.length; at++) {
      const found = this.#at(text, at);
      if (found === undefined) continue;
      const trim = this.#trims?.get(found.id);
      const before = text.slice(start, at);
      parts.push(trim?.lstrip ? before.trimEnd() : before, found.id);
      start = found.end;
      if (trim?.rstrip) while (/\s/u.test(text.charAt(start))) start++;
      at = start - 1;
    }
    parts.push(text.slice(start));
    return parts
      .filter((part) => part !== "")
      .flatMap((part, at) => (typeof part === "string" ? encode(part, at) : part));
  }

  /** The text with no special piece in it, which `unquote` gives back. */
  quote(text: string): string {
    return text.replace(/[^]/g, (unit, at: number) => {
      const code = unit.charCodeAt(0);
      return code >> 4 === 0xfdd || this.#at(text, at) ? digitsOf(code) : unit;
    });
  }

  #at(text: string, start: number): { id: number; end: number } | undefined {
    const lengths = this.#lengths.get(text.charCodeAt(start));
    if (lengths === undefined) return undefined;
    for (const length of lengths) {
      const id = this.#ids.get(text.slice(start, start + length));
      if (id !== undefined) return { id, end: start + length };
    }
    return undefined;
  }
}

/** A quoted UTF-16 unit is its four hexadecimal digits, in characters that no text should hold: U+FDD0 … U+FDDF. */
const digitsOf = (unit: number): string =>
  String.fromCharCode(...[12, 8, 4, 0].map((shift) => 0xfdd0 + ((unit >> shift) & 15)));

/** A text as it was before `quote`. */
export const unquote = (text: string): string =>
  text.replace(/[\ufdd0-\ufddf]{4}/g, (digits) => {
    const [a, b, c, d] = Array.from(digits, (digit) => digit.charCodeAt(0) & 15);
    return String.fromCharCode((a << 12) | (b << 8) | (c << 4) | d);
  });
