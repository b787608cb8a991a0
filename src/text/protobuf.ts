/** Reads the wire form of protocol buffers. */
import { broken } from "./door.ts";

/** Values by the number of their field: numbers are varints or 32-bit floats, bytes are texts, messages and other things. */
export type Message = ReadonlyMap<number, readonly (number | Uint8Array)[]>;

const where = "tokenizer.model";

export function readMessage(bytes: Uint8Array): Message {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values = new Map<number, (number | Uint8Array)[]>();
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
  const read = (wire: number): number | Uint8Array => {
    if (wire === 0) return varint();
    if (wire === 5) return view.getFloat32(take(4), true);
    if (wire !== 1 && wire !== 2) broken(where, `unknown wire type ${wire} at byte ${at}`);
    const length = wire === 1 ? 8 : varint();
    const start = take(length);
    return bytes.subarray(start, start + length);
  };

  while (at < bytes.length) {
    const tag = varint();
    const value = read(tag % 8);
    const field = Math.floor(tag / 8);
    const before = values.get(field);
    if (before) before.push(value);
    else values.set(field, [value]);
  }
  return values;
}
