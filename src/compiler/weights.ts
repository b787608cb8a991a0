import { InputError } from "../base/errors.ts";
import type { Node } from "../ir/graph.ts";
import type { ModelFacts, WeightPart } from "../kernels/kernel.ts";
import { align, type Argument, type PlannedWeight } from "../plan/plan.ts";
import { matrixBytes } from "../quant/compute-layout.ts";
import { formatBytes, isFloat } from "../quant/formats.ts";

/** Bytes of weights that share a memory with activations and caches, and that fill one of their own. */
export type WeightRoom = Readonly<Record<"besideRest" | "alone", number>>;
/** Of memories of 4 GiB. */
const wasmRoom: WeightRoom = { besideRest: 2 ** 31, alone: 2 ** 32 - 2 ** 20 };

/** Formats and sizes of a parameter's parts, in the order of its rows. */
export type WeightShapes = ReadonlyMap<string, readonly WeightShape[]>;
type WeightShape = Pick<WeightPart, "format" | "rows" | "columns">;

function shapesOf(weights: WeightShapes, param: Node): readonly WeightShape[] {
  const name = param.string("name");
  const shapes = weights.get(name);
  if (shapes !== undefined) return shapes;
  throw new InputError("missing-weight", `the model needs the weight ${name}, which is not there`);
}

/** What the formats of the weights say; a parameter that mixes integers and floats is packed nowhere. */
export function modelFacts(weights: WeightShapes): ModelFacts {
  const areFloat = (param: Node): boolean[] =>
    shapesOf(weights, param).map(({ format }) => isFloat(format));
  return {
    isPacked: (param) => param.shape.length === 2 && new Set(areFloat(param)).size === 1,
    isInteger: (param) => !areFloat(param).includes(true),
    partRows: (param) => shapesOf(weights, param).map(({ rows }) => rows),
  };
}

/**
 * Decides how each parameter lies in memory, and where: packed where it is multiplied by or looked up in, plain f32 rows where it
 * is used in another way (or both).
 */
export class WeightPlanner {
  readonly list: PlannedWeight[] = [];
  /** Of each memory. */
  readonly bytes: number[] = [0];
  readonly #weights: WeightShapes;
  readonly #room: WeightRoom;
  /** About as much as all weights take. */
  #packedBytes = 0;
  readonly #planned = new Map<string, readonly WeightPart[]>();

  constructor(weights: WeightShapes, room: WeightRoom = wasmRoom) {
    this.#weights = weights;
    this.#room = room;
    for (const { format, rows, columns } of [...weights.values()].flat())
      this.#packedBytes += rows * formatBytes(format, columns);
  }

  packed = (param: Node): readonly WeightPart[] => this.#plan(param, "packed");
  /** The address of a parameter as plain f32 rows. */
  plain = (param: Node): Argument => this.#plan(param, "plain")[0].argument;

  /** The first memory as long as all weights fit beside the rest there; else those behind it, one after the other. */
  #memoryFor(bytes: number): number {
    if (this.#packedBytes <= this.#room.besideRest) return 0;
    const last = Math.max(1, this.bytes.length - 1);
    const used = this.bytes[last] ?? 0;
    const memory = used === 0 || used + bytes <= this.#room.alone ? last : last + 1;
    this.bytes[memory] ??= 0;
    return memory;
  }

  #plan(node: Node, layout: PlannedWeight["layout"]): readonly WeightPart[] {
    const param = node.string("name");
    const key = `${layout} ${param}`;
    const known = this.#planned.get(key);
    if (known !== undefined) return known;
    let firstRow = 0;
    const packed = layout === "packed";
    const parts = shapesOf(this.#weights, node).map((shape, segment): WeightPart => {
      const { format, rows, columns } = shape;
      const bytes = packed ? matrixBytes(format, rows, columns) : 4 * rows * columns;
      const memory = packed ? this.#memoryFor(bytes) : 0;
      const place = { format, rows, columns, bytes, memory, offset: this.bytes[memory] };
      const weight = this.list.push({ param, segment, layout, ...place }) - 1;
      this.bytes[memory] += packed ? align(bytes) : bytes;
      firstRow += rows;
      return { ...place, firstRow: firstRow - rows, argument: { kind: "weight", weight } };
    });
    this.bytes[0] = align(this.bytes[0]);
    this.#planned.set(key, parts);
    return parts;
  }
}
