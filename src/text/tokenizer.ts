/** Text to token ids and back, whatever file the vocabulary came from. */
import { InputError } from "../base/errors.ts";
import { byteOfPiece, unspell } from "./byte-alphabet.ts";
import { encoderOf } from "./encoder.ts";
import { idsOf, type Token, type Vocabulary } from "./vocabulary.ts";

export interface Tokenizer {
  readonly vocabSize: number;
  /** UTF-16 units of the longest spelling of a token: one never stands for more of a text. */
  readonly longest: number;
  /**
   * Ids of a text, without BOS and EOS. `special`: control tokens written in the text become such tokens; else (the
   * default) none comes out of any text. "unquoted": only those outside of what `quote` made, which counts as it was.
   * User-defined pieces are found in every text.
   */
  encode(text: string, options?: { readonly special?: boolean | "unquoted" }): number[];
  /** A text in which no control token is written; the same text where none was. */
  quote(text: string): string;
  /** The vocabulary's own spelling of a token. */
  pieceOf(id: number): string;
  /** Bytes that a token adds to a text; none for control tokens. */
  bytesOf(id: number): Uint8Array;
  isControl(id: number): boolean;
  /** Whether a prompt begins with BOS by default. */
  readonly addsBos: boolean;
  /** Id of a special token by its text, e.g. "<s>". */
  idOf(piece: string): number | undefined;
  readonly bos: number | undefined;
  /** Ids that end a generation as far as the tokenizer's data say so. */
  readonly eos: readonly number[];
  /** Text of ids arriving one by one; never splits a character. */
  decoder(): Decoder;
  decode(ids: readonly number[]): string;
}

export interface Decoder {
  /** The text that became certain with this token. */
  push(id: number): string;
  /** What an incomplete rest becomes. */
  end(): string;
}

/** `read` gives the vocabulary, e.g. a checkpoint's. Errors: those of `read`. */
export function createTokenizer(read: () => Vocabulary): Tokenizer {
  const vocabulary = read();
  const { pieces, addsBos, bos, eos } = vocabulary;
  const special = idsOf(vocabulary, "control", "unknown", "user-defined");
  const idOf = (token: Token): number | undefined =>
    typeof token === "string" ? special.get(token) : token;
  return {
    vocabSize: pieces.length,
    longest: pieces.reduce((most, { length }) => Math.max(most, length), 1),
    addsBos,
    bos: bos.map(idOf).find((id) => id !== undefined),
    eos: [...new Set(eos.map(idOf))].filter((id) => id !== undefined),
    idOf,
    ...encoderOf(vocabulary),
    ...decoderOf(vocabulary),
  };
}

const utf8 = new TextEncoder();

function decoderOf({ pieces, kinds, alphabet, stripsSpace = false }: Vocabulary) {
  const checked = (id: number): number => {
    if (Number.isInteger(id) && id >= 0 && id < pieces.length) return id;
    const problem = `token id ${id} is outside the vocabulary of ${pieces.length} tokens`;
    throw new InputError("token-id", problem, { id, vocabSize: pieces.length });
  };
  const isControl = (id: number): boolean =>
    kinds[checked(id)] === "control" || kinds[id] === "unknown";
  const bytesOf = (id: number): Uint8Array => {
    if (isControl(id)) return new Uint8Array();
    if (kinds[id] === "byte") return Uint8Array.of(byteOfPiece(pieces[id]));
    if (alphabet === "characters") return utf8.encode(pieces[id].replaceAll("▁", " "));
    return (kinds[id] === "normal" ? unspell(pieces[id]) : undefined) ?? utf8.encode(pieces[id]);
  };
  const decoder = (): Decoder => {
    const text = new TextDecoder("utf-8", { ignoreBOM: true }); // or else a leading U+FEFF is lost
    let strips = stripsSpace;
    return {
      push(id) {
        if (isControl(id)) return "";
        // The first token's piece gives up the one ▁ that it begins with.
        const first = strips && pieces[id].startsWith("▁") ? 1 : 0;
        strips = false;
        return text.decode(bytesOf(id).subarray(first), { stream: true });
      },
      end: () => text.decode(),
    };
  };
  return {
    pieceOf: (id: number) => pieces[checked(id)],
    isControl,
    bytesOf,
    decoder,
    decode(ids: readonly number[]) {
      const { push, end } = decoder();
      return ids.map(push).join("") + end();
    },
  };
}
