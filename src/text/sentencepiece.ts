/** SentencePiece's `tokenizer.model`: a protocol buffer, of which we read the few fields that encoding depends on. */
import { broken, unsupported } from "./door.ts";
import { kindOf, mergesByRank, type Rules, type Vocabulary } from "./vocabulary.ts";

const where = "tokenizer.model";
const bpe = 2;

/** Numbers and defaults of fields are those of sentencepiece_model.proto. */
export function sentencePieceVocabulary(bytes: Uint8Array): Vocabulary {
  const fields = fieldsOf(bytes);
  const pieces = fields.filter(([field]) => field === 1).map(([, piece]) => messageOf(piece));
  const model: Message = new Map(fields);
  const trainer = messageOf(model.get(2));
  const normalizer = messageOf(model.get(3));
  const addDummyPrefix = numberIn(normalizer, 3, 1);
  if (pieces.length === 0) broken(where, "it holds no pieces: is it a SentencePiece model?");
  if (numberIn(trainer, 3, 1) !== bpe)
    unsupported(where, "is not a BPE model; others are not supported", "tokenizer-model");
  if (textIn(normalizer, 2, "") !== "")
    unsupported(where, "normalises text by a table of its own; only the identity is supported");
  if (numberIn(normalizer, 4, 1) !== 0)
    unsupported(where, "removes white space (remove_extra_whitespaces), which is not supported");
  const scores = pieces.map((piece) => numberIn(piece, 2, 0));
  return {
    ...scored(scores, addDummyPrefix !== 0),
    pieces: pieces.map((piece) => textIn(piece, 1, "")),
    kinds: pieces.map((piece) => kindOf(numberIn(piece, 3, 1))),
    addsBos: true,
    bos: [textIn(trainer, 46, "<s>")],
    eos: [textIn(trainer, 47, "</s>")],
  };
}

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

/** The last value of each field, by its number. */
type Message = ReadonlyMap<number, Value>;

const messageOf = (value: Value | undefined): Message =>
  new Map(typeof value === "object" ? fieldsOf(value) : []);

function numberIn(message: Message, field: number, absent: number): number {
  const value = message.get(field);
  return typeof value === "number" ? value : absent;
}

function textIn(message: Message, field: number, absent: string): string {
  const value = message.get(field);
  return typeof value === "object" ? utf8.decode(value) : absent;
}

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

function fieldsOf(bytes: Uint8Array): [field: number, value: Value][] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const fields: [number, Value][] = [];
  let at = 0;

  /** Goes on by some bytes, and gives where they begin. */
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
    return bytes.subarray(take(length), at);
  };

  while (at < bytes.length) {
    const tag = varint();
    fields.push([Math.floor(tag / 8), read(tag % 8)]);
  }
  return fields;
}
