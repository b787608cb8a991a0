/** SentencePiece's `tokenizer.model`: a protocol buffer, of which we read the few fields that encoding depends on. */
import { broken, unsupported } from "./door.ts";
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

/** Varints and 32-bit floats are numbers; texts, messages and other things are bytes. */
type Value = number | Uint8Array;

type Field = readonly [number: number, value: Value];

/** The number of each field, and its value where it is absent. */
type Table = Readonly<Record<string, readonly [field: number, absent: string | number]>>;
type Read<T extends Table> = { [Name in keyof T]: T[Name][1] extends string ? string : number };

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

function readMessage<T extends Table>(message: Value | undefined, table: T): Read<T> {
  const fields = typeof message === "object" ? fieldsOf(message) : [];
  const read: Record<string, string | number> = {};
  for (const [name, [number, absent]] of Object.entries(table)) {
    const last = fields.findLast(([field]) => field === number)?.[1] ?? absent;
    const value = typeof last === "object" ? utf8.decode(last) : last;
    read[name] = typeof value === typeof absent ? value : absent;
  }
  return read as Read<T>;
}

function fieldsOf(bytes: Uint8Array): Field[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const fields: Field[] = [];
  let at = 0;

  const take = (length: number): number => {
    at += length;
    if (at > bytes.length) broken(where, "it ends in the middle of a field: is it complete?");
    return at - length;
  };
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; scale <= 2 ** 63; scale *= 128) {
      const byte = bytes[take(1)];
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    return broken(where, `number without an end at byte ${at}`);
  };
  const read = (wire: number): Value => {
    if (wire === 0) return varint();
    if (wire === 5) return view.getFloat32(take(4), true);
    if (wire !== 1 && wire !== 2) broken(where, `unknown wire type ${wire} at byte ${at}`);
    const length = wire === 1 ? 8 : varint();
    const start = take(length);
    return bytes.subarray(start, start + length);
  };

  while (at < bytes.length) {
    const tag = varint();
    fields.push([Math.floor(tag / 8), read(tag % 8)]);
  }
  return fields;
}
