/** Checks of foreign tokenizer data: the value as the type asked for, or an InputError that names the place. */
import { InputError } from "../base/errors.ts";

/** A check and what it asks for. */
export interface Check<T> {
  readonly expected: string;
  is(value: unknown): value is T;
}

const check = <T>(expected: string, is: (value: unknown) => value is T): Check<T> => ({
  expected,
  is,
});

export const text: Check<string> = check("a text", (value) => typeof value === "string");
export const yesOrNo: Check<boolean> = check(
  "true or false",
  (value) => typeof value === "boolean",
);
export const number: Check<number> = check("a number", (value) => typeof value === "number");
export const id: Check<number> = check(
  "a token id",
  (value): value is number =>
    Number.isInteger(value) && Number(value) >= 0 && Number(value) < 2 ** 31,
);
export const object: Check<Readonly<Record<string, unknown>>> = check(
  "an object",
  (value): value is Readonly<Record<string, unknown>> =>
    typeof value === "object" && value !== null && !Array.isArray(value),
);
/** A list, or a typed array. */
export const list = <T>(item: Check<T>): Check<ArrayLike<T> & Iterable<T>> =>
  check(`a list, each item ${item.expected}`, (value): value is ArrayLike<T> & Iterable<T> => {
    if (!Array.isArray(value) && !ArrayBuffer.isView(value)) return false;
    return Array.prototype.every.call(value, item.is);
  });

export function take<T>(value: unknown, check: Check<T>, where: string): T {
  if (check.is(value)) return value;
  throw new InputError(
    "broken-vocabulary",
    `${where}: expected ${check.expected}, got ${describe(value, check)}`,
    { where },
  );
}

/** As `take`, and undefined or null where there is nothing. */
export const takeOptional = <T>(value: unknown, check: Check<T>, where: string): T | undefined =>
  value === undefined || value === null ? undefined : take(value, check, where);

function describe(value: unknown, { expected }: Check<unknown>): string {
  if (value === undefined) return "nothing";
  if (Array.isArray(value) && expected.startsWith("a list")) return "a list with other items";
  return JSON.stringify(value)?.slice(0, 60) ?? typeof value;
}

/** Throws when an id points outside the vocabulary. */
export function takeIds(
  ids: readonly (number | undefined)[],
  vocabSize: number,
  where: string,
): number[] {
  const given = ids.filter((id) => id !== undefined);
  for (const id of given)
    if (id >= vocabSize)
      throw new InputError(
        "broken-vocabulary",
        `${where}: token id ${id} is outside the vocabulary of ${vocabSize} tokens`,
        { where, id, vocabSize },
      );
  return given;
}
