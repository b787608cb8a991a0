/** The number formats of WebAssembly, as bytes. */

/** Unsigned LEB128. */
export const unsigned = (value: number): number[] =>
  value < 128 ? [value] : [(value % 128) + 128, ...unsigned(Math.floor(value / 128))];

/** Signed LEB128. */
export const signed = (value: bigint): number[] =>
  value >= -64n && value < 64n
    ? [Number(value & 127n)]
    : [Number(value & 127n) + 128, ...signed(value >> 7n)];

/** Codes behind a prefix are prefix × 65536 + code. */
export const opcode = (code: number): number[] =>
  code < 0x10000 ? [code] : [code >> 16, ...unsigned(code & 0xffff)];

/** In one piece. Typed arrays: a module of 80 kB is copied a few times on the way, and `flat` takes 5 ms each time. */
export function join(parts: readonly ArrayLike<number>[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** A section, a body, a name: its size, then its content. */
export const sized = (content: ArrayLike<number>): Uint8Array =>
  join([unsigned(content.length), content]);
/** How many things, then each. */
export const list = (things: readonly ArrayLike<number>[]): Uint8Array =>
  join([unsigned(things.length), ...things]);
export const text = (value: string): Uint8Array => sized(new TextEncoder().encode(value));
