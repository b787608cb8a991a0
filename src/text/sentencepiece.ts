/** SentencePiece's `tokenizer.model`: a protocol buffer, of which we read the few fields that encoding depends on. */
import { UnsupportedError } from "../base/errors.ts";
import { broken } from "./door.ts";
import { type Message, readMessage } from "./protobuf.ts";
import { idsOf, kindOf, mergesByRank, type Vocabulary } from "./vocabulary.ts";
import { spacesForm } from "./words.ts";

/** Numbers of the fields, from sentencepiece_model.proto. */
const model = { pieces: 1, trainer: 2, normalizer: 3 } as const;
const pieceFields = { piece: 1, score: 2, type: 3 } as const;
const trainerFields = { modelType: 3, bosPiece: 46, eosPiece: 47 } as const;
const normalizerFields = { charsmap: 2, addDummyPrefix: 3, removeExtraWhitespaces: 4 } as const;
const bpe = 2;

export function sentencePieceVocabulary(bytes: Uint8Array): Vocabulary {
  const file = readMessage(bytes);
  const entries = (file.get(model.pieces) ?? []).map((entry) => messageIn(entry));
  if (entries.length === 0)
    broken("tokenizer.model", "it holds no pieces: is it a SentencePiece model?");
  const trainer = messageIn(file.get(model.trainer)?.at(-1));
  const normalizer = messageIn(file.get(model.normalizer)?.at(-1));
  mustBeSupported(trainer, normalizer);
  const prefix = numberIn(normalizer, normalizerFields.addDummyPrefix, 1) !== 0;
  const pieces = entries.map((entry) => textIn(entry, pieceFields.piece, ""));
  const kinds = entries.map((entry) => kindOf(numberIn(entry, pieceFields.type, 1)));
  const scores = entries.map((entry) => numberIn(entry, pieceFields.score, 0));
  const control = idsOf({ pieces, kinds }, "control");
  const eos = control.get(textIn(trainer, trainerFields.eosPiece, "</s>"));
  return {
    ...scoredVocabulary({ pieces, kinds }, scores, prefix),
    addsBos: true,
    bos: control.get(textIn(trainer, trainerFields.bosPiece, "<s>")),
    eos: eos === undefined ? [] : [eos],
  };
}

/**
 * SentencePiece merges the neighbours whose union has the highest score; the leftmost of equal ones. Runs of ▁ have low
 * ids and the score −1e9: they merge last.
 */
export function scoredVocabulary(
  { pieces, kinds }: Pick<Vocabulary, "pieces" | "kinds">,
  scores: ArrayLike<number>,
  prefix: boolean,
): Omit<Vocabulary, "addsBos" | "bos" | "eos"> {
  const distinct = [...new Set(Array.from(scores))].sort((a, b) => b - a);
  const rankOfScore = new Map(distinct.map((score, rank) => [score, rank]));
  const normal = idsOf({ pieces, kinds }, "normal");
  return {
    pieces,
    kinds,
    normal,
    alphabet: "characters",
    merges: mergesByRank(normal, (id) => rankOfScore.get(scores[id]) ?? 0),
    wholeWords: false,
    normalizer: spacesForm(prefix),
    preTokenizer: null,
    stripsSpace: prefix,
    trims: new Map(),
  };
}

function mustBeSupported(trainer: Message, normalizer: Message): void {
  const unsupported = (code: string, problem: string): never => {
    throw new UnsupportedError(code, `tokenizer.model ${problem}`);
  };
  if (numberIn(trainer, trainerFields.modelType, 1) !== bpe)
    unsupported("tokenizer-model", "is not a BPE model; others are not supported");
  if (textIn(normalizer, normalizerFields.charsmap, "") !== "")
    unsupported(
      "tokenizer-rules",
      "normalises text by a table of its own; only the identity is supported",
    );
  if (numberIn(normalizer, normalizerFields.removeExtraWhitespaces, 1) !== 0)
    unsupported(
      "tokenizer-rules",
      "removes extra white space (remove_extra_whitespaces), which is not supported",
    );
}

/** Of a field that occurs several times the last one counts. */
const numberIn = (message: Message, field: number, absent: number): number => {
  const value = message.get(field)?.at(-1);
  return typeof value === "number" ? value : absent;
};
const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
const textIn = (message: Message, field: number, absent: string): string => {
  const value = message.get(field)?.at(-1);
  return value instanceof Uint8Array ? utf8.decode(value) : absent;
};
const messageIn = (value: number | Uint8Array | undefined): Message =>
  readMessage(value instanceof Uint8Array ? value : new Uint8Array());
