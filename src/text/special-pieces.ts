/** Finds pieces that are taken out of a text before it is cut into words. */
import type { Trim } from "./vocabulary.ts";

interface Node {
  id: number | undefined;
  readonly next: Map<number, Node>; // by UTF-16 unit
}

/** A tree of spellings: the longest one that begins at a place wins, in time linear in the text. */
export class SpecialPieces {
  readonly #root: Node = { id: undefined, next: new Map() };
  readonly #trims: ReadonlyMap<number, Trim>;

  constructor(ids: ReadonlyMap<string, number>, trims: ReadonlyMap<number, Trim> = new Map()) {
    this.#trims = trims;
    for (const [piece, id] of ids) {
      let node = this.#root;
      for (let at = 0; at < piece.length; at++) {
        const unit = piece.charCodeAt(at);
        const child = node.next.get(unit) ?? { id: undefined, next: new Map() };
        node.next.set(unit, child);
        node = child;
      }
      if (piece !== "") node.id = id;
    }
  }

  /** The text in order: ids of special pieces, and the stretches between them. */
  split(text: string): (number | string)[] {
    const parts: (number | string)[] = [];
    let start = 0;
    for (let at = 0; at < text.length;) {
      const found = this.#at(text, at);
      if (found === undefined) {
        at++;
        continue;
      }
      const trim = this.#trims.get(found.id);
      const before = text.slice(start, at);
      parts.push(trim?.left ? before.trimEnd() : before, found.id);
      start = trim?.right ? endOfSpace(text, found.end) : found.end;
      at = start;
    }
    parts.push(text.slice(start));
    return parts.filter((part) => part !== "");
  }

  #at(text: string, start: number): { id: number; end: number } | undefined {
    let found: { id: number; end: number } | undefined;
    let node = this.#root.next.get(text.charCodeAt(start));
    for (let end = start + 1; node !== undefined; end++) {
      if (node.id !== undefined) found = { id: node.id, end };
      node = end < text.length ? node.next.get(text.charCodeAt(end)) : undefined;
    }
    return found;
  }
}

function endOfSpace(text: string, start: number): number {
  let end = start;
  while (/\s/u.test(text.charAt(end))) end++;
  return end;
}
