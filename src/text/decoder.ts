/** Ids to bytes and text. */
import { InputError } from "../base/errors.ts";
import { byteOfPiece, unspell } from "./byte-alphabet.ts";
import type { Decoder, Tokenizer } from "./tokenizer.ts";
import type { Vocabulary } from "./vocabulary.ts";

type Decoding = Pick<Tokenizer, "pieceOf" | "bytesOf" | "isControl" | "decoder" | "decode">;

const utf8 = new TextEncoder();

export function decoderOf({ pieces, kinds, alphabet, stripsSpace = false }: Vocabulary): Decoding {
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
    pieceOf: (id) => pieces[checked(id)],
    isControl,
    bytesOf,
    decoder,
    decode(ids) {
      const { push, end } = decoder();
      return ids.map(push).join("") + end();
    },
  };
}
