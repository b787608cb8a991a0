import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { huggingFaceVocabulary } from "../../src/text/huggingface-vocabulary.ts";
import { sentencePieceVocabulary } from "../../src/text/sentencepiece.ts";
import { tekkenVocabulary } from "../../src/text/tekken.ts";
import { createTokenizer } from "../../src/text/tokenizer.ts";
import {
  ggufSource,
  itMeets,
  readGoldens,
  readJson,
  vocabularyHash,
  type Source,
} from "./goldens.ts";

const root = "../shared/reference/tokenizers";
const here = existsSync(root);

const huggingFace = async (path: string): Promise<Source> => {
  const json = readJson(path);
  return () => huggingFaceVocabulary(json, undefined);
};
const sentencePiece = async (path: string): Promise<Source> => {
  const bytes = readFileSync(path);
  return () => sentencePieceVocabulary(bytes);
};
const tekken = async (path: string): Promise<Source> => {
  const json = readJson(path);
  return () => tekkenVocabulary(json);
};

/** GGUF's writer marks user-defined pieces as normal ones: what marks them is lost. */
const lost = { apart: ["user-defined-0", "user-defined-1", "user-defined-2"] };

const table: readonly {
  readonly file: string;
  readonly read: (path: string) => Promise<Source>;
  readonly but?: { readonly apart: readonly string[] };
}[] = [
  { file: "smollm2/tokenizer.json", read: huggingFace },
  { file: "smollm2/vocab.gguf", read: ggufSource },
  { file: "mistral-v1-spm/tokenizer.model.v1", read: sentencePiece },
  { file: "mistral-v2-spm/mistral_instruct_tokenizer_240216.model.v2", read: sentencePiece },
  { file: "mistral-v3-spm/mistral_instruct_tokenizer_240323.model.v3", read: sentencePiece },
  { file: "mistral-v3-spm/tokenizer.json", read: huggingFace },
  { file: "mistral-v3-spm/vocab.gguf", read: ggufSource, but: lost },
  { file: "mistral-v7-spm/mistral_instruct_tokenizer_241114.model.v7", read: sentencePiece },
  { file: "tekken/tekken_240718.json", read: tekken },
  { file: "tekken/vocab.gguf", read: ggufSource },
];

describe.skipIf(!here)("tokenizers (only where ../shared/reference is mounted)", async () => {
  for (const { file, read, but } of here ? table : []) {
    const source = await read(`${root}/${file}`);
    const goldens = readGoldens(`${root}/${file.split("/")[0]}/cases.json`);
    describe(file, () => {
      itMeets(goldens, () => source, but);
      if (!but)
        it("has the vocabulary of the goldens, byte for byte", () =>
          expect(vocabularyHash(source)).toBe(goldens.vocab_sha256));
    });
  }

  it.skipIf(!here)("reads the special tokens of later tekken files", () => {
    const file = readJson(`${root}/tekken/tekken_240718.json`) as Record<string, unknown>;
    const overlay = readJson(`${root}/tekken/overlay.v13.json`) as Record<string, unknown>;
    const json = { ...file, special_tokens: overlay["special_tokens"] };
    const tokenizer = createTokenizer(() => tekkenVocabulary(json));
    expect([tokenizer.idOf("[THINK]"), tokenizer.idOf("<SPECIAL_999>")]).toEqual([34, 999]);
    expect(tokenizer.encode("[THINK]a", { special: true })).toEqual([34, 1097]);
  });
});
