/** SentencePiece's `tokenizer.model`: a protocol buffer, of which we read the few fields that encoding depends on. */
import { broken, unsupported } from "./door.ts";
import { readMessage, fieldsOf } from "./protobuf.ts";
import { kindOf, mergesByRank, type Vocabulary } from "./vocabulary.ts";

/** Numbers and defaults of the fields, from sentencepiece_model.proto. */
const model = { pieces: 1, trainer: 2, normalizer: 3 };
const pieceFields = { piece: [1, ""], score: [2, 0], type: [3, 1] } as const;
const trainerFields = { modelType: [3, 1], bosPiece: [46, "<s>"], eosPiece: [47, "</s>"] } as const;
const normalizerFields = {
  charsmap: [2, ""],
  addDummyPrefix: [3, 1],
  removeExtraWhitespaces: [4, 1],
} as const;
const bpe = 2;
const where = "tokenizer.model";

export function sentencePieceVocabulary(bytes: Uint8Array): Vocabulary {
  const fields = fieldsOf(bytes);
  const messages = (number: number) =>
    fields.filter(([field]) => field === number).map(([, value]) => value);
  const pieces = messages(model.pieces).map((piece) => readMessage(piece, pieceFields));
  const trainer = readMessage(messages(model.trainer).at(-1), trainerFields);
  const normalizer = readMessage(messages(model.normalizer).at(-1), normalizerFields);
  if (pieces.length === 0) broken(where, "it holds no pieces: is it a SentencePiece model?");
  if (trainer.modelType !== bpe)
    unsupported(where, "is not a BPE model; others are not supported", "tokenizer-model");
  if (normalizer.charsmap !== "")
    unsupported(where, "normalises text by a table of its own; only the identity is supported");
  if (normalizer.removeExtraWhitespaces !== 0)
    unsupported(where, "removes white space (remove_extra_whitespaces), which is not supported");
  const scores = pieces.map(({ score }) => score);
  return {
    ...scored(scores, normalizer.addDummyPrefix !== 0),
    pieces: pieces.map(({ piece }) => piece),
    kinds: pieces.map(({ type }) => kindOf(type)),
    addsBos: true,
    bos: [trainer.bosPiece],
    eos: [trainer.eosPiece],
  };
}

type Rules = Omit<Vocabulary, "pieces" | "kinds" | "addsBos" | "bos" | "eos">;

/**
 * SentencePiece merges the neighbours whose union has the highest score; the leftmost of equal ones. Runs of ▁ have low
 * ids and the score −1e9: they merge last. `prefix`: whether a text gets a space in front.
 */
export function scored(scores: ArrayLike<number>, prefix: boolean): Rules {
  const distinct = [...new Set(Array.from(scores))].sort((a, b) => b - a);
  const rankOfScore = new Map(distinct.map((score, rank) => [score, rank]));
  return {
    alphabet: "characters",
    merges: mergesByRank((id) => rankOfScore.get(scores[id]) ?? 0),
    normalizers: [
      ...(prefix ? [{ type: "Prepend", prepend: "▁" }] : []),
      { type: "Replace", pattern: { String: " " }, content: "▁" },
    ],
    stripsSpace: prefix,
  };
}
