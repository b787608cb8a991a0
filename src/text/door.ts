/** Readers of foreign tokenizer data: the value as the type asked for, or an InputError that names the place. */
import { InputError, UnsupportedError } from "../base/errors.ts";
import { isObject, type Json } from "../base/json.ts";
import { isWithin, type Limits } from "../base/limits.ts";

export type Read<T> = (value: unknown, where: string) => T;

/** A reader that takes a value as it is, or not at all. */
export interface Check<T> extends Read<T> {
  readonly expected: string;
  is(value: unknown): value is T;
}

export function broken(where: string, problem: string, cause?: unknown): never {
  throw new InputError("broken-vocabulary", `${where}: ${problem}`, { where }, { cause });
}

export function unsupported(where: string, problem: string, code = "tokenizer-rules"): never {
  throw new UnsupportedError(code, `${where} ${problem}`, { where });
}

export function check<T>(expected: string, is: (value: unknown) => value is T): Check<T> {
  const read = (value: unknown, where: string): T =>
    is(value) ? value : broken(where, `expected ${expected}, got ${describe(value, expected)}`);
  return Object.assign(read, { expected, is });
}

function describe(value: unknown, expected: string): string {
  if (value === undefined) return "nothing";
  if (Array.isArray(value) && expected.startsWith("a list")) return "a list with other items";
  return JSON.stringify(value)?.slice(0, 60) ?? typeof value;
}

export const text: Check<string> = check("a text", (value) => typeof value === "string");
export const flag: Check<boolean> = check("true or false", (value) => typeof value === "boolean");
export const number: Check<number> = check("a number", (value) => typeof value === "number");
/** Below 4 million, ten times the largest published vocabulary: every id up to the largest takes memory. */
const ids: Limits = { least: 0, most: 2 ** 22 - 1, whole: true };
export const id: Check<number> = check("a token id", (value) => isWithin(value, ids));
export const object: Check<Json> = check("an object", isObject);

export const list = <T>(item: Check<T>): Check<readonly T[]> =>
  check(
    `a list, each item ${item.expected}`,
    (value): value is readonly T[] => Array.isArray(value) && value.every(item.is),
  );

/** A list whose items are read one by one. */
export function each<T>(read: Read<T>): Read<T[]> {
  const objects = list(object);
  return (value, where) => objects(value, where).map((item, at) => read(item, `${where}[${at}]`));
}

/** As `read`; `absent` where there is nothing, or null. */
export function optional<T, Absent>(read: Read<T>, absent: Absent): Read<T | Absent> {
  return (value, where) => ((value ?? undefined) === undefined ? absent : read(value, where));
}

/** An object of which these fields are read, in this order. */
export const record =
  <T>(fields: { readonly [Name in keyof T]: Read<T[Name]> }): Read<T> =>
  (value, where) => {
    const given = object(value, where);
    const inside = where.endsWith(".json") ? `${where}: ` : `${where}.`;
    const readers = Object.entries<Read<unknown>>(fields);
    const read = readers.map(([name, read]) => [name, read(given[name], inside + name)]);
    return Object.fromEntries(read) as T;
  };
