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

/** A section, a body, a name: its size, then its content. */
export const sized = (bytes: readonly number[]): number[] => [...unsigned(bytes.length), ...bytes];
/** How many things, then each. */
export const list = (items: number[][]): number[] => [...unsigned(items.length), ...items.flat()];
export const text = (value: string): number[] => sized([...new TextEncoder().encode(value)]);
