import { InputError } from "./errors.ts";

/** Which numbers an option takes. */
export interface Limits {
  readonly least: number;
  readonly most: number;
  readonly whole?: boolean;
}

export const isWithin = (value: unknown, { least, most, whole }: Limits): value is number =>
  typeof value === "number" &&
  value >= least &&
  value <= most &&
  (!whole || Number.isInteger(value));

export const showLimits = ({ least, most, whole }: Limits): string =>
  `a ${whole ? "whole " : ""}number from ${least} to ${most}`;

/** Errors: InputError with the option's name, what was expected, what came. */
export function checkNumber(name: string, value: unknown, limits: Limits): number {
  if (isWithin(value, limits)) return value;
  const problem = `${name}: expected ${showLimits(limits)}, got ${String(value)}`;
  throw new InputError("option", problem, { name, value });
}
