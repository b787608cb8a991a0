import { InternalError } from "../base/errors.ts";
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
    if (this.#value === undefined)
      throw new InternalError("trace", "a parameter was used outside a trace");
    return this.#value;
  }
}

/** A node of the module tree. Fields that are modules, parameters or lists of modules are its children. */
export class Module {
  /** All parameters below, by full name: `model.layers.3.self_attn.qkv_proj.weight`. */
  namedParameters(prefix = ""): Map<string, Parameter> {
    const found = new Map<string, Parameter>();
    for (const [field, child] of Object.entries(this)) collect(child, prefix + field, found);
    return found;
  }
}

function collect(child: unknown, name: string, found: Map<string, Parameter>): void {
  if (child instanceof Parameter) found.set(name, child);
  else if (child instanceof Module)
    for (const [key, value] of child.namedParameters(`${name}.`)) found.set(key, value);
  else if (Array.isArray(child))
    child.forEach((item, index) => collect(item, `${name}.${index}`, found));
}

/** The checkpoint tensors that make up a parameter, by full name. */
export function sourcesOf(name: string, parameter: Parameter): readonly ParameterSource[] {
  const stacked = parameter.options.stackedFrom;
  if (stacked === undefined) return [{ name, rows: parameter.shape[0] }];
  const parent = name.split(".").slice(0, -2).join(".");
  return stacked.map((source) => ({ ...source, name: `${parent}.${source.name}` }));
}
