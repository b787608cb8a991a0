import { InternalError } from "../base/errors.ts";

/** A size known only when a step runs: `times` × the variable `name`, which lies in [min, max]. */
export interface SymbolicDim {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  readonly times: number;
}
export type Dim = number | SymbolicDim;
export type Shape = readonly Dim[];

/** Values of the symbolic sizes of one step, by name. */
export type DimBindings = Readonly<Record<string, number>>;

export function symbolic(name: string, min: number, max: number): SymbolicDim {
  return { name, min, max, times: 1 };
}

/** The size of a dimension in one step. */
export function sizeOf(dim: Dim, bindings: DimBindings): number {
  if (typeof dim === "number") return dim;
  const { name, min, max, times } = dim;
  const value = bindings[name];
  if (value >= min && value <= max) return value * times;
  throw new InternalError("dim-binding", `size ${name}: expected ${min} to ${max}, got ${value}`);
}

/** The largest size a dimension can have. */
export const maxOf = (dim: Dim): number => (typeof dim === "number" ? dim : dim.max * dim.times);

/** Bounds follow from the name. */
export const sameDim = (a: Dim, b: Dim): boolean =>
  typeof a === "number" || typeof b === "number"
    ? a === b
    : a.name === b.name && a.times === b.times;

export const sameShape = (a: Shape, b: Shape): boolean =>
  a.length === b.length && a.every((dim, axis) => sameDim(dim, b[axis]));

/** The product of dimensions; at most one of them may be symbolic. */
export const product = (shape: Shape): Dim =>
  shape.reduce((a, b) => {
    if (typeof a === "number") return typeof b === "number" ? a * b : { ...b, times: b.times * a };
    if (typeof b === "number") return { ...a, times: a.times * b };
    throw new InternalError("dim-product", `product of two symbolic sizes ${a.name} and ${b.name}`);
  }, 1);

export const showDim = (dim: Dim): string =>
  typeof dim === "number" ? String(dim) : dim.times === 1 ? dim.name : `${dim.times}·${dim.name}`;
export const showShape = (shape: Shape): string => `[${shape.map(showDim).join(", ")}]`;

export const elements = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Row-major strides, in elements. [2, 3, 4] → [12, 4, 1]. */
export const stridesOf = <D extends Dim>(shape: readonly D[]): D[] =>
  shape.map((_, axis) => product(shape.slice(axis + 1)) as D);
