import { InternalError } from "../base/errors.ts";
import { symbolic, type Dim } from "../ir/dim.ts";
import { graphOf, type Graph, type Node } from "../ir/graph.ts";
import { input } from "../ops/index.ts";
import { PagedKVCache } from "./attention.ts";
import type { Module } from "./module.ts";
import type { ArgumentSpec, Bounds, MethodSpec, ModuleSpec } from "./spec.ts";
import { Tensor } from "./tensor.ts";

/** What a traced method may return: one tensor, which the spec names, or several by name. */
export type Traced = Tensor | Readonly<Record<string, Tensor>>;
type Method = (...args: (Tensor | PagedKVCache)[]) => Traced;

/** Runs each method of the spec once on symbolic arguments and returns the graphs, by method name. */
export function trace(module: Module, spec: ModuleSpec, bounds: Bounds): Map<string, Graph> {
  for (const [name, parameter] of module.namedParameters()) parameter.bind(name);
  const graphs = new Map<string, Graph>();
  for (const [name, method] of Object.entries(spec))
    if (isTraceable(method)) graphs.set(name, traceMethod(module, name, method, bounds));
  return graphs;
}

/** Methods with plain numbers as arguments make host objects (the cache) and have no graph. */
const isTraceable = (method: MethodSpec): boolean =>
  Object.values(method.args).every((argument) => argument.kind !== "integer");

function traceMethod(module: Module, name: string, spec: MethodSpec, bounds: Bounds): Graph {
  const method: unknown = Reflect.get(module, name);
  if (typeof method !== "function")
    throw new InternalError("trace", `the spec names ${name}, which the module does not have`);
  const inputs = Object.entries(spec.args).map(([key, argument]) => inputOf(key, argument, bounds));
  const args = inputs.map((node) =>
    node.type.dtype === "cache" ? new PagedKVCache(node) : new Tensor(node),
  );
  const result = (method as Method).apply(module, args);
  const outputs = result instanceof Tensor ? { [spec.returns]: result } : result;
  return graphOf(
    name,
    inputs,
    Object.entries(outputs).map(([key, value]) => ({ name: key, node: value.node })),
  );
}

function inputOf(name: string, argument: ArgumentSpec, bounds: Bounds): Node {
  switch (argument.kind) {
    case "cache":
      return input(name, "cache", []);
    case "tensor":
      return input(
        name,
        argument.dtype,
        argument.shape.map((size) => dimOf(size, bounds)),
      );
    case "integer":
      throw new InternalError("trace", `${name} is a plain number`);
    default:
      return argument satisfies never;
  }
}

function dimOf(size: number | string, bounds: Bounds): Dim {
  if (typeof size === "number") return size;
  const bound = bounds[size];
  if (bound === undefined) throw new InternalError("trace", `no bounds for the size ${size}`);
  return symbolic(size, bound.min, bound.max);
}
