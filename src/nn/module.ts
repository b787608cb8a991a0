import { found, InternalError } from "../base/errors.ts";
import { param } from "../ops/index.ts";
import { Tensor } from "./tensor.ts";

/**
 * How a parameter is cut for tensor-parallel shards: along `axis`, each of `segments` (sizes along that axis, e.g. q, k, v)
 * on its own, so that a shard holds a part of each.
 */
export interface ShardSingleDim {
  readonly axis: number;
  readonly segments?: readonly number[];
}

/** A part of a fused parameter as the checkpoint names it: `rows` rows of the tensor `name`, relative to the module. */
export interface ParameterSource {
  readonly name: string;
  readonly rows: number;
}

export interface ParameterOptions {
  readonly shard?: ShardSingleDim;
  /** Where the checkpoint splits what the module fuses, in the order of rows. */
  readonly stackedFrom?: readonly ParameterSource[];
}

/** A weight: its shape, and what loaders and sharding need to know. Its name is its place in the module tree. */
export class Parameter {
  readonly shape: readonly number[];
  readonly options: ParameterOptions;
  #value: Tensor | undefined;

  constructor(shape: readonly number[], options: ParameterOptions = {}) {
    this.shape = shape;
    this.options = options;
    const rows = options.stackedFrom?.reduce((sum, source) => sum + source.rows, 0) ?? shape[0];
    if (rows !== shape[0])
      throw new InternalError("stacked-rows", `stacked parts have ${rows} rows of ${shape[0]}`);
  }

  /** Gives the parameter its name in the tree, and so its symbolic value. */
  bind(name: string): void {
    this.#value = new Tensor(param(name, this.shape));
  }

  /** The symbolic value inside a traced method. */
  get value(): Tensor {
    return found(this.#value, "trace", "a parameter was used outside a trace");
  }
}

/** A node of the module tree. Fields that are modules, parameters or lists of modules are its children. */
export class Module {
  /** All parameters below, by full name: `model.layers.3.self_attn.qkv_proj.weight`. */
  namedParameters(): Map<string, Parameter> {
    return new Map(below(this, ""));
  }
}

function* below(value: unknown, name: string): Generator<readonly [string, Parameter]> {
  if (value instanceof Parameter) yield [name, value];
  else if (value instanceof Module || Array.isArray(value))
    for (const [key, child] of Object.entries(value))
      yield* below(child, name === "" ? key : `${name}.${key}`);
}

/** The checkpoint tensors that make up a parameter, by full name. */
export function sourcesOf(name: string, parameter: Parameter): readonly ParameterSource[] {
  const stacked = parameter.options.stackedFrom ?? [];
  if (stacked.length === 0) return [{ name, rows: parameter.shape[0] }];
  const parent = name.split(".").slice(0, -2).join(".");
  return stacked.map((source) => ({ ...source, name: `${parent}.${source.name}` }));
}
