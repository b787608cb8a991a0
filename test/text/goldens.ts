/** What the golden files of tokenizers hold, and the claims that a tokenizer must meet for one of them. */
import { createHash } from "node:crypto";
import { globSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { ggufVocabulary } from "../../src/text/gguf-vocabulary.ts";
import { createTokenizer, type Tokenizer } from "../../src/text/tokenizer.ts";
import type { Kind, Vocabulary } from "../../src/text/vocabulary.ts";
import { openFile } from "../../src/weights/file.ts";
import { readGgufHeader } from "../../src/weights/gguf.ts";

export interface Goldens {
  readonly vocab_size: number;
  readonly vocab_sha256: string;
  readonly cases: readonly { name: string; text: string; ids: number[]; decoded?: string }[];
  readonly single_chars: readonly (readonly [codePoint: number, ids: number[]])[];
  readonly streams: readonly { name: string; ids: number[]; prefixes: string[]; final: string }[];
  readonly special_parsed?: readonly { name: string; text: string; ids: number[] }[];
}

export const readJson = (path: string): unknown => JSON.parse(readFileSync(path, "utf8"));
export const readGoldens = (path: string): Goldens => readJson(path) as Goldens;

/** What reads a vocabulary. */
export type Source = () => Vocabulary;

export async function ggufSource(path: string): Promise<Source> {
  await using file = await openFile(path);
  const { metadata } = await readGgufHeader(file);
  return () => ggufVocabulary(metadata);
}

export const bundledSource = (): Promise<Source> => ggufSource(globSync("models/*/*.gguf")[0]);

/** `apart`: cases that a source cannot meet, which must then differ. */
export function itMeets(
  goldens: Goldens,
  source: () => Source,
  { apart = [] }: { readonly apart?: readonly string[] } = {},
): void {
  let made: Tokenizer | undefined;
  const tokenizer = (): Tokenizer => (made ??= createTokenizer(source()));
  const { cases } = goldens;

  it(`encodes all ${cases.length} texts to the same ids${apart.length > 0 ? `, but ${apart.join(", ")}` : ""}`, () => {
    const wrong = cases.filter(({ text, ids }) => !same(tokenizer().encode(text), ids));
    expect(wrong.map(({ name }) => name)).toEqual(apart);
  });
  it("decodes them", () => {
    const wrong = cases.filter(
      ({ text, ids, decoded }) => tokenizer().decode(ids) !== (decoded ?? text),
    );
    expect(wrong.map(({ name }) => name)).toEqual([]);
  });
  it("encodes each character of Latin-1 alone", () => {
    for (const [codePoint, ids] of goldens.single_chars)
      expect([codePoint, tokenizer().encode(String.fromCodePoint(codePoint))]).toEqual([
        codePoint,
        ids,
      ]);
  });
  it.each(goldens.streams)("streams $name", ({ ids, prefixes, final }) => {
    const decoder = tokenizer().decoder();
    let text = "";
    expect(ids.map((id) => (text += decoder.push(id)))).toEqual(prefixes);
    expect(text + decoder.end()).toBe(final);
  });
  it.each(goldens.special_parsed ?? [])("parses special tokens: $name", ({ text, ids }) => {
    expect(tokenizer().encode(text, { special: true })).toEqual(ids);
    expect(tokenizer().encode(text)).not.toEqual(ids);
  });
}

/** Kinds as the golden files number them. */
const numbers: Record<Kind, number> = {
  normal: 0,
  byte: 1,
  control: 2,
  unknown: 3,
  "user-defined": 4,
};

/** SHA-256 over all ids of `u8 kind, u32le length, bytes`; special pieces have their name for bytes. */
export function vocabularyHash(source: Source): string {
  const { kinds, pieces } = source();
  const tokenizer = createTokenizer(source);
  const hash = createHash("sha256");
  kinds.forEach((kind, id) => {
    const named = kind !== "normal" && kind !== "byte";
    const bytes = named ? Buffer.from(pieces[id].replaceAll("▁", " ")) : tokenizer.bytesOf(id);
    const head = Buffer.alloc(5);
    head.writeUInt8(numbers[kind]);
    head.writeUInt32LE(bytes.length, 1);
    hash.update(head).update(bytes);
  });
  return hash.digest("hex");
}

const same = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((id, at) => id === b[at]);
