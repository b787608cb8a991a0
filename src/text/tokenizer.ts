/** Text to token ids and back, whatever file the vocabulary came from. */
import { InputError } from "../base/errors.ts";
import { byteOfPiece, unspell } from "./byte-alphabet.ts";
import { ggufVocabulary } from "./gguf-vocabulary.ts";
import { huggingFaceVocabulary } from "./huggingface-vocabulary.ts";
import { sentencePieceVocabulary } from "./sentencepiece.ts";
import type { TokenizerSource } from "./source.ts";
import { SpecialPieces, unquote } from "./special-pieces.ts";
import { tekkenVocabulary } from "./tekken.ts";
import { idsOf, type Vocabulary } from "./vocabulary.ts";
import { wordEncoder } from "./word-encoder.ts";
import { type Words, wordsOf } from "./words.ts";

export interface Tokenizer {
  readonly vocabSize: number;
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

export function createTokenizer(source: TokenizerSource): Tokenizer {
  return new BpeTokenizer(vocabularyOf(source));
}

/** The vocabulary of a source, checked. */
export function vocabularyOf(source: TokenizerSource): Vocabulary {
  switch (source.kind) {
    case "tokenizer.json":
      return huggingFaceVocabulary(source.json, source.config);
    case "gguf":
      return ggufVocabulary(source.metadata);
    case "sentencepiece":
      return sentencePieceVocabulary(source.bytes);
    case "tekken":
      return tekkenVocabulary(source.json);
    case "none":
      throw new InputError(
        "no-tokenizer",
        `the model has no tokenizer; put one of these beside it: ${source.lookedFor.join(", ")}`,
        { lookedFor: source.lookedFor },
      );
    default:
      return source satisfies never;
  }
}

const utf8 = new TextEncoder();

class BpeTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly addsBos: boolean;
  readonly bos: number | undefined;
  readonly eos: readonly number[];
  readonly #vocabulary: Vocabulary;
  readonly #specialIds: ReadonlyMap<string, number>;
  readonly #control: SpecialPieces;
  readonly #userDefined: SpecialPieces;
  readonly #words: Words;
  readonly #encodeWord: (word: string) => readonly number[];

  constructor(vocabulary: Vocabulary) {
    const { pieces, trims, alphabet } = vocabulary;
    this.vocabSize = pieces.length;
    this.addsBos = vocabulary.addsBos;
    this.bos = vocabulary.bos;
    this.eos = vocabulary.eos;
    this.#vocabulary = vocabulary;
    this.#specialIds = idsOf(vocabulary, "control", "unknown", "user-defined");
    this.#control = new SpecialPieces(idsOf(vocabulary, "control", "unknown"), trims);
    const spelled = (piece: string): string =>
      alphabet === "characters" ? piece.replaceAll(" ", "▁") : piece;
    const userDefined = [...idsOf(vocabulary, "user-defined")];
    const found = new Map(userDefined.map(([piece, id]) => [spelled(piece), id]));
    this.#userDefined = new SpecialPieces(found, trims);
    this.#words = wordsOf(vocabulary);
    this.#encodeWord = wordEncoder(vocabulary);
  }

  encode(text: string, { special = false }: Parameters<Tokenizer["encode"]>[1] = {}): number[] {
    const ids: number[] = [];
    const sections = special ? this.#control.split(text) : [text];
    sections.forEach((section, index) => {
      if (typeof section === "number") ids.push(section);
      else this.#encodeSection(special === "unquoted" ? unquote(section) : section, index, ids);
    });
    return ids;
  }

  /** A lone surrogate has no UTF-8; it becomes U+FFFD. */
  #encodeSection(text: string, section: number, ids: number[]): void {
    if (text === "") return;
    const normal = this.#words.normalize(text.toWellFormed());
    for (const part of this.#userDefined.split(normal))
      if (typeof part === "number") ids.push(part);
      else
        for (const word of this.#words.cut(part, section))
          for (const id of this.#encodeWord(word)) ids.push(id);
  }

  quote(text: string): string {
    return this.#control.quote(text);
  }

  pieceOf(id: number): string {
    return this.#vocabulary.pieces[this.#checked(id)];
  }

  bytesOf(id: number): Uint8Array {
    const piece = this.pieceOf(id);
    const { kinds, alphabet } = this.#vocabulary;
    const kind = kinds[id];
    switch (kind) {
      case "control":
      case "unknown":
        return new Uint8Array();
      case "byte":
        return Uint8Array.of(byteOfPiece(piece));
      case "normal":
      case "user-defined":
        if (alphabet === "characters") return utf8.encode(piece.replaceAll("▁", " "));
        return (kind === "normal" ? unspell(piece) : undefined) ?? utf8.encode(piece);
      default:
        return kind satisfies never;
    }
  }

  isControl(id: number): boolean {
    const kind = this.#vocabulary.kinds[this.#checked(id)];
    return kind === "control" || kind === "unknown";
  }

  idOf(piece: string): number | undefined {
    return this.#specialIds.get(piece);
  }

  decoder(): Decoder {
    const text = new TextDecoder("utf-8", { ignoreBOM: true }); // or else a leading U+FEFF is lost
    let isFirst = true;
    return {
      push: (id) => {
        const bytes = this.bytesOf(id);
        if (this.isControl(id)) return "";
        // The first token's piece gives up the one ▁ that it begins with.
        const strips = isFirst && this.#vocabulary.stripsSpace && this.pieceOf(id).startsWith("▁");
        isFirst = false;
        return text.decode(strips ? bytes.subarray(1) : bytes, { stream: true });
      },
      end: () => text.decode(),
    };
  }

  decode(ids: readonly number[]): string {
    const decoder = this.decoder();
    return ids.map((id) => decoder.push(id)).join("") + decoder.end();
  }

  #checked(id: number): number {
    if (Number.isInteger(id) && id >= 0 && id < this.vocabSize) return id;
    const problem = `token id ${id} is outside the vocabulary of ${this.vocabSize} tokens`;
    throw new InputError("token-id", problem, { id, vocabSize: this.vocabSize });
  }
}
