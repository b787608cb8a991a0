/** Reads the wire form of protocol buffers: a list of numbered fields. */
import { InputError } from "../base/errors.ts";

export interface Field {
  readonly field: number;
  /** A varint, or a 32-bit float; 0 for the other wire types. */
  readonly number: number;
  /** Text or message; empty for the other wire types. */
  readonly bytes: Uint8Array;
}

const empty = new Uint8Array();

export function fieldsOf(message: Uint8Array): Field[] {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const fields: Field[] = [];
  let at = 0;

  const varint = (): number => {
    let value = 0;
    for (let scale = 1; scale <= 2 ** 63; scale *= 128) {
      if (at >= message.length) throw truncated();
      const byte = message[at++];
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw new InputError(
      "broken-vocabulary",
      `tokenizer.model: number without an end at byte ${at}`,
    );
  };
  const skip = (bytes: number): number => {
    const start = at;
    at += bytes;
    if (at > message.length) throw truncated();
    return start;
  };

  while (at < message.length) {
    const tag = varint();
    const field = Math.floor(tag / 8);
    const wire = tag % 8;
    if (wire === 0) fields.push({ field, number: varint(), bytes: empty });
    else if (wire === 1) skip(8);
    else if (wire === 2) {
      const length = varint();
      const start = skip(length);
      fields.push({ field, number: 0, bytes: message.subarray(start, start + length) });
    } else if (wire === 5)
      fields.push({ field, number: view.getFloat32(skip(4), true), bytes: empty });
    else
      throw new InputError(
        "broken-vocabulary",
        `tokenizer.model: unknown wire type ${wire} at byte ${at}`,
      );
  }
  return fields;
}

const truncated = (): InputError =>
  new InputError(
    "broken-vocabulary",
    "tokenizer.model ends in the middle of a field: is it complete?",
  );
