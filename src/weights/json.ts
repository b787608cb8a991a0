import { messageOf, refusal, type Refusal } from "../base/errors.ts";

export type Json = Readonly<Record<string, unknown>>;

export const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** JSON.parse takes 60 bytes of memory for each open bracket. */
const mostDepth = 100;

/** The object that a text in UTF-8 spells. Errors: InputError with `where`. */
export function parseObject(bytes: Uint8Array, where: string): Json {
  const fail: Refusal = refusal("json", where);
  if (depthOf(bytes) > mostDepth)
    fail(`expected JSON, got more than ${mostDepth} brackets in one another`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    const problem = messageOf(error).slice(0, 200);
    fail(`expected JSON: ${problem}; the file is damaged: fetch it again`);
  }
  return isObject(value) ? value : fail("expected a JSON object");
}

const [quote, backslash, openArray, closeArray, openObject, closeObject] = Buffer.from('"\\[]{}');

/** How many brackets are open at most at one place. */
function depthOf(bytes: Uint8Array): number {
  let [depth, most, quoted] = [0, 0, false];
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (quoted && byte === backslash) at++;
    else if (byte === quote) quoted = !quoted;
    else if (quoted) continue;
    else if (byte === openArray || byte === openObject) most = Math.max(most, ++depth);
    else if (byte === closeArray || byte === closeObject) depth--;
  }
  return most;
}
