import { InputError } from "../base/errors.ts";
import type { WeightPart } from "../kernels/kernel.ts";
import { matrixBytes } from "../quant/compute-layout.ts";
import { isFloat } from "../quant/formats.ts";
import type { Argument, PlannedWeight } from "../plan/plan.ts";
import { align } from "./buffers.ts";
import type { WeightShape, WeightShapes } from "./compile.ts";

/** Whether a parameter is stored as integers; one that mixes both kinds computes on rounded inputs nowhere. */
export const isIntegerWeight = (weights: WeightShapes, param: string): boolean =>
  shapesOf(weights, param).every(({ format }) => !isFloat(format));

function shapesOf(weights: WeightShapes, param: string): readonly WeightShape[] {
  const shapes = weights.get(param);
  if (shapes === undefined)
    throw new InputError(
      "missing-weight",
      `the model needs the weight ${param}, which is not there`,
    );
  return shapes;
}

/**
 * Decides how each parameter lies in memory, and where: packed where it is multiplied by or looked up in, plain f32 rows where it
 * is used in another way (or both).
 */
export class WeightPlanner {
  readonly #weights: WeightShapes;
  readonly #planned = new Map<string, readonly (PlannedWeight & { readonly index: number })[]>();
  #count = 0;
  #bytes = 0;

  constructor(weights: WeightShapes) {
    this.#weights = weights;
  }

  /** Whether a matrix can be packed: its parts are all integers or all floats. */
  isPackable(name: string): boolean {
    const kinds = shapesOf(this.#weights, name).map(({ format }) => isFloat(format));
    return kinds.every((kind) => kind === kinds[0]);
  }

  isInteger(name: string): boolean {
    return isIntegerWeight(this.#weights, name);
  }

  /** The packed parts of a parameter. */
  parts(name: string): readonly WeightPart[] {
    let firstRow = 0;
    return this.#plan(name, "packed").map((part) => {
      const start = firstRow;
      firstRow += part.rows;
      const { format, rows, columns } = part;
      return {
        format,
        rows,
        columns,
        firstRow: start,
        argument: { kind: "weight", weight: part.index },
      };
    });
  }

  /** The address of a parameter as plain f32 rows. */
  plain(name: string): Argument {
    return { kind: "weight", weight: this.#plan(name, "plain")[0].index };
  }

  #plan(name: string, layout: "packed" | "plain"): readonly (PlannedWeight & { index: number })[] {
    const key = `${layout} ${name}`;
    const known = this.#planned.get(key);
    if (known !== undefined) return known;
    const parts = shapesOf(this.#weights, name).map((shape, segment) => {
      const { format, rows, columns } = shape;
      const bytes = layout === "packed" ? matrixBytes(format, rows, columns) : 4 * rows * columns;
      const offset = this.#bytes;
      this.#bytes += layout === "packed" ? align(bytes) : bytes;
      return {
        param: name,
        segment,
        layout,
        format,
        rows,
        columns,
        bytes,
        offset,
        index: this.#count++,
      };
    });
    this.#bytes = align(this.#bytes);
    this.#planned.set(key, parts);
    return parts;
  }

  list(): PlannedWeight[] {
    return [...this.#planned.values()].flat();
  }

  get bytes(): number {
    return this.#bytes;
  }
}
