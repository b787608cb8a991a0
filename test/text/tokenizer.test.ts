import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createTokenizer } from "../../src/text/tokenizer.ts";
import { bundledSource, itMeets, readGoldens, vocabularyHash } from "./goldens.ts";

const source = await bundledSource();
const goldens = readGoldens("test/goldens/tokenizers/smollm2.json");
const tokenizer = createTokenizer(source);
const ids = fc.array(fc.nat({ max: tokenizer.vocabSize - 1 }));

/** SmolLM2's vocabulary lacks 21 bytes, among them some C0 controls and F1 … F4: such characters vanish. */
const covered = fc
  .string({ unit: "grapheme" })
  .map((text) => text.replace(/[^\P{Cc}\n\t]|[\u{40000}-\u{10ffff}]/gu, ""));

describe("the bundled model's tokenizer", () => {
  itMeets(goldens, () => source);

  it("has the vocabulary of the goldens, byte for byte", () => {
    expect(tokenizer.vocabSize).toBe(goldens.vocab_size);
    expect(vocabularyHash(source)).toBe(goldens.vocab_sha256);
  });

  it("knows its special tokens by name", () => {
    expect(tokenizer.idOf("<|im_start|>")).toBe(1);
    expect(tokenizer.idOf("hello")).toBeUndefined();
    expect(tokenizer.pieceOf(2)).toBe("<|im_end|>");
    expect(tokenizer.isControl(2)).toBe(true);
    expect(tokenizer.bytesOf(2)).toEqual(new Uint8Array());
    expect([tokenizer.bos, tokenizer.eos, tokenizer.addsBos]).toEqual([1, [2], false]);
  });

  it("refuses an id outside the vocabulary", () => {
    for (const id of [-1, 0.5, tokenizer.vocabSize])
      expect(() => tokenizer.decode([id])).toThrow(
        `token id ${id} is outside the vocabulary of 49152 tokens`,
      );
  });

  it("gives a text back from its ids", () => {
    fc.assert(
      fc.property(covered, (text) => {
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
      }),
    );
  });

  it("lets no control token out of a user's text", () => {
    const names = [0, 1, 2, 3, 4, 5].map((id) => tokenizer.pieceOf(id));
    const parts = fc.oneof(fc.constantFrom(...names, "<|", "|>", " "), fc.string());
    fc.assert(
      fc.property(fc.array(parts), (texts) => {
        const ids = tokenizer.encode(texts.join(""));
        expect(ids.filter((id) => tokenizer.isControl(id))).toEqual([]);
        expect(tokenizer.decode(ids)).toBe(texts.join(""));
      }),
    );
  });

  it("streams what it decodes at once, whatever the ids", () => {
    fc.assert(
      fc.property(ids, (ids) => {
        const decoder = tokenizer.decoder();
        const streamed = ids.map((id) => decoder.push(id)).join("") + decoder.end();
        const bytes = Buffer.concat(ids.map((id) => tokenizer.bytesOf(id)));
        expect(streamed).toBe(new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes));
        expect(tokenizer.decode(ids)).toBe(streamed);
      }),
    );
  });

  it("never splits a character while streaming", () => {
    fc.assert(
      fc.property(covered, (text) => {
        const decoder = tokenizer.decoder();
        let streamed = "";
        for (const id of tokenizer.encode(text)) {
          streamed += decoder.push(id);
          expect(text.startsWith(streamed)).toBe(true);
          expect(streamed.isWellFormed()).toBe(true);
        }
      }),
    );
  });

  it.each(["a", " ", "1", "\n", ".", "的", "ab"])(
    "takes 400 000 times %j without quadratic work",
    { timeout: 20_000 }, // about 0.4 s alone; quadratic merging would take hours
    (text) => {
      const long = text.repeat(400_000);
      expect(tokenizer.decode(tokenizer.encode(long))).toBe(long);
    },
  );
});
