/** How vocabularies write bytes as text: GPT-2's visible letters, and SentencePiece's `<0x0A>`. */

const bytes = Array.from({ length: 256 }, (_, byte) => byte);

/** Bytes that no visible Latin-1 character has for its number: they are spelled from U+0100 on. */
const hidden = bytes.filter((byte) => byte < 0x21 || (byte > 0x7e && byte < 0xa1) || byte === 0xad);

/** Letter of each byte. 0x41 is "A", 0x20 is "Ġ". */
export const byteLetters: readonly string[] = bytes.map((byte) =>
  String.fromCharCode(hidden.includes(byte) ? 0x100 + hidden.indexOf(byte) : byte),
);

const byteOfLetter = new Map(byteLetters.map((letter, byte) => [letter, byte]));

/** The letters of some bytes. */
export const spell = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byteLetters[byte]).join("");

/** The bytes of some letters; undefined when one of them is no such letter. */
export function unspell(letters: string): Uint8Array | undefined {
  const bytes = Array.from(letters, (letter) => byteOfLetter.get(letter));
  return bytes.every((byte) => byte !== undefined) ? Uint8Array.from(bytes) : undefined;
}

/** Whether a spelling is that of a byte piece. */
export const isBytePiece = (piece: string): boolean => /^<0x[0-9A-F]{2}>$/.test(piece);

/** `<0x0A>` → 10. */
export const byteOfPiece = (piece: string): number => Number.parseInt(piece.slice(3, 5), 16);
