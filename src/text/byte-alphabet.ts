/** GPT-2's spelling of bytes: each byte is one visible letter, so that a vocabulary of bytes can be written as text. */

/** Bytes that are spelled by the character of their own number; the others follow from U+0100 on. */
const visible = (byte: number): boolean =>
  (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;

/** Letter of each byte. 0x41 is "A", 0x20 is "Ġ". */
export const byteLetters: readonly string[] = spellBytes();

const byteOfLetter: ReadonlyMap<string, number> = new Map(
  byteLetters.map((letter, byte) => [letter, byte]),
);

function spellBytes(): string[] {
  let hidden = 0;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(visible(byte) ? byte : 0x100 + hidden++),
  );
}

/** The letters of some bytes. */
export function spell(bytes: Iterable<number>): string {
  let text = "";
  for (const byte of bytes) text += byteLetters[byte];
  return text;
}

/** The bytes of some letters; undefined when one of them is no such letter. */
export function unspell(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) {
    const byte = byteOfLetter.get(text[at]);
    if (byte === undefined) return undefined;
    bytes[at] = byte;
  }
  return bytes;
}
