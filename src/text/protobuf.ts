/** Reads the wire form of protocol buffers. Of a field that occurs several times the last value counts. */
import { broken } from "./door.ts";

/** Varints and 32-bit floats are numbers; texts, messages and other things are bytes. */
type Value = number | Uint8Array;

export type Field = readonly [number: number, value: Value];

/** The number of each field, and its value where it is absent. */
type Table = Readonly<Record<string, readonly [field: number, absent: string | number]>>;
type Read<T extends Table> = { [Name in keyof T]: T[Name][1] extends string ? string : number };

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

export function readMessage<T extends Table>(message: Value | undefined, table: T): Read<T> {
  const fields = typeof message === "object" ? fieldsOf(message) : [];
  const read: Record<string, string | number> = {};
  for (const [name, [number, absent]] of Object.entries(table)) {
    const last = fields.findLast(([field]) => field === number)?.[1] ?? absent;
    const value = typeof last === "object" ? utf8.decode(last) : last;
    read[name] = typeof value === typeof absent ? value : absent;
  }
  return read as Read<T>;
}

const where = "tokenizer.model";

export function fieldsOf(bytes: Uint8Array): Field[] {
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
