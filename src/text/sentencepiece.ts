/** SentencePiece's `tokenizer.model`: a protocol buffer, of which we read the few fields that encoding depends on. */
import { InputError, UnsupportedError } from "../base/errors.ts";
import { type Field, fieldsOf } from "./protobuf.ts";
import { idsOf, kindsByNumber, type Merge, mergesByRank, type Vocabulary } from "./vocabulary.ts";
import { spacesForm } from "./words.ts";

/** Numbers of the fields, from sentencepiece_model.proto. */
const model = { pieces: 1, trainer: 2, normalizer: 3 } as const;
const pieceFields = { piece: 1, score: 2, type: 3 } as const;
const trainerFields = { modelType: 3, bosPiece: 46, eosPiece: 47 } as const;
const normalizerFields = { charsmap: 2, addDummyPrefix: 3, removeExtraWhitespaces: 4 } as const;
const bpe = 2;

export function sentencePieceVocabulary(bytes: Uint8Array): Vocabulary {
  const fields = fieldsOf(bytes);
  const entries = fields.filter(({ field }) => field === model.pieces).map(readPiece);
  if (entries.length === 0)
    throw new InputError(
      "broken-vocabulary",
      "tokenizer.model holds no pieces: is it a SentencePiece model?",
    );
  const trainer = messageIn(fields, model.trainer);
  const normalizer = messageIn(fields, model.normalizer);
  mustBeSupported(trainer, normalizer);
  const prefix = numberIn(normalizer, normalizerFields.addDummyPrefix, 1) !== 0;
  const pieces = entries.map(({ piece }) => piece);
  const kinds = entries.map(({ type }) => kindsByNumber[type] ?? "normal");
  const control = idsOf({ pieces, kinds }, "control");
  const eos = control.get(textIn(trainer, trainerFields.eosPiece, "</s>"));
  return {
    pieces,
    kinds,
    alphabet: "characters",
    merges: mergesByScore(
      { pieces, kinds },
      entries.map(({ score }) => score),
    ),
    wholeWords: false,
    normalizer: spacesForm(prefix),
    preTokenizer: null,
    stripsSpace: prefix,
    trims: new Map(),
    addsBos: true,
    bos: control.get(textIn(trainer, trainerFields.bosPiece, "<s>")),
    eos: eos === undefined ? [] : [eos],
  };
}

/**
 * SentencePiece merges the neighbours whose union has the highest score; the leftmost of equal ones. Runs of ▁ have low
 * ids and the score −1e9: they merge last.
 */
export function mergesByScore(
  vocabulary: Pick<Vocabulary, "pieces" | "kinds">,
  scores: ArrayLike<number>,
): Merge[] {
  const distinct = [...new Set(Array.from(scores))].sort((a, b) => b - a);
  const rankOfScore = new Map(distinct.map((score, rank) => [score, rank]));
  return mergesByRank(idsOf(vocabulary, "normal"), (id) => rankOfScore.get(scores[id]) ?? 0);
}

function readPiece({ bytes }: Field): { piece: string; score: number; type: number } {
  const fields = fieldsOf(bytes);
  return {
    piece: textIn(fields, pieceFields.piece, ""),
    score: numberIn(fields, pieceFields.score, 0),
    type: numberIn(fields, pieceFields.type, 1),
  };
}

function mustBeSupported(trainer: readonly Field[], normalizer: readonly Field[]): void {
  if (numberIn(trainer, trainerFields.modelType, 1) !== bpe)
    throw new UnsupportedError(
      "tokenizer-model",
      "tokenizer.model is not a BPE model; others are not supported",
    );
  const charsmap = last(normalizer, normalizerFields.charsmap);
  if (charsmap && charsmap.bytes.length > 0)
    throw new UnsupportedError(
      "tokenizer-rules",
      "tokenizer.model normalises text by a table of its own; only the identity is supported",
    );
  if (numberIn(normalizer, normalizerFields.removeExtraWhitespaces, 1) !== 0)
    throw new UnsupportedError(
      "tokenizer-rules",
      "tokenizer.model removes extra white space (remove_extra_whitespaces), which is not supported",
    );
}

const last = (fields: readonly Field[], number: number): Field | undefined =>
  fields.findLast(({ field }) => field === number);
const messageIn = (fields: readonly Field[], number: number): Field[] => {
  const found = last(fields, number);
  return found ? fieldsOf(found.bytes) : [];
};
const numberIn = (fields: readonly Field[], number: number, absent: number): number =>
  last(fields, number)?.number ?? absent;
const textIn = (fields: readonly Field[], number: number, absent: string): string => {
  const found = last(fields, number);
  return found ? new TextDecoder("utf-8", { ignoreBOM: true }).decode(found.bytes) : absent;
};
