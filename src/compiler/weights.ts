import { InputError } from "../base/errors.ts";
import type { Node } from "../ir/graph.ts";
import type { ModelFacts, WeightPart } from "../kernels/kernel.ts";
import type { Argument, PlannedWeight } from "../plan/plan.ts";
import { matrixBytes } from "../quant/compute-layout.ts";
import { isFloat } from "../quant/formats.ts";
import { align } from "./buffers.ts";

/** Formats and sizes of a parameter's parts, in the order of its rows. */
export type WeightShapes = ReadonlyMap<string, readonly WeightShape[]>;
type WeightShape = Pick<WeightPart, "format" | "rows" | "columns">;

function shapesOf(weights: WeightShapes, name: string): readonly WeightShape[] {
  const shapes = weights.get(name);
  if (shapes !== undefined) return shapes;
  throw new InputError("missing-weight", `the model needs the weight ${name}, which is not there`);
}

/** Whether a parameter is stored as integers; one that mixes both kinds computes on rounded inputs nowhere. */
export const isIntegerWeight = (weights: WeightShapes, name: string): boolean =>
  shapesOf(weights, name).every(({ format }) => !isFloat(format));

/**
 * Decides how each parameter lies in memory, and where: packed where it is multiplied by or looked up in, plain f32 rows where it
 * is used in another way (or both).
 */
export class WeightPlanner implements ModelFacts {
  readonly list: PlannedWeight[] = [];
  bytes = 0;
  readonly #weights: WeightShapes;
  readonly #planned = new Map<string, readonly WeightPart[]>();

  constructor(weights: WeightShapes) {
    this.#weights = weights;
  }

  /** Matrices can be packed whose parts are all integers or all floats. */
  isPacked(param: Node): boolean {
    const shapes = shapesOf(this.#weights, param.string("name"));
    return (
      param.shape.length === 2 && new Set(shapes.map(({ format }) => isFloat(format))).size === 1
    );
  }

  isInteger(param: Node): boolean {
    return isIntegerWeight(this.#weights, param.string("name"));
  }

  parts(param: Node): readonly WeightPart[] {
    return this.#plan(param.string("name"), "packed");
  }

  /** The address of a parameter as plain f32 rows. */
  plain(param: Node): Argument {
    return this.#plan(param.string("name"), "plain")[0].argument;
  }

  #plan(param: string, layout: "packed" | "plain"): readonly WeightPart[] {
    const key = `${layout} ${param}`;
    const known = this.#planned.get(key);
    if (known !== undefined) return known;
    let firstRow = 0;
    const packed = layout === "packed";
    const parts = shapesOf(this.#weights, param).map((shape, segment): WeightPart => {
      const { format, rows, columns } = shape;
      const argument: Argument = { kind: "weight", weight: this.list.length };
      const part = { format, rows, columns, firstRow, argument };
      const bytes = packed ? matrixBytes(format, rows, columns) : 4 * rows * columns;
      const place = { bytes, offset: this.bytes };
      this.list.push({ param, segment, layout, format, rows, columns, ...place });
      this.bytes += packed ? align(bytes) : bytes;
      firstRow += rows;
      return part;
    });
    this.bytes = align(this.bytes);
    this.#planned.set(key, parts);
    return parts;
  }
}
