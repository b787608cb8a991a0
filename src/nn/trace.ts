import { InternalError } from "../base/errors.ts";
import { symbolic, type Dim } from "../ir/dim.ts";
import { graphOf, type Graph, type Node } from "../ir/graph.ts";
import { input } from "../ops/index.ts";
import type { Module } from "./module.ts";
import type { ArgumentSpec, Bounds, MethodSpec, ModuleSpec } from "./spec.ts";
import { PagedKVCache, Tensor } from "./tensor.ts";

/** A traced method: it returns one tensor, which the spec names, or several by name. */
type Method = (...args: (Tensor | PagedKVCache)[]) => Tensor | Readonly<Record<string, Tensor>>;

/** Runs each method of the spec once on symbolic arguments and returns the graphs, which have the names of the methods. */
export function trace(module: Module, spec: ModuleSpec, bounds: Bounds): Graph[] {
  for (const [name, parameter] of module.namedParameters()) parameter.bind(name);
  const methods = Object.entries(spec).filter(([, method]) => !isOnHost(method));
  return methods.map(([name, method]) => traceMethod(module, name, method, bounds));
}

/** Methods with plain numbers as arguments make host objects (the cache) and have no graph. */
const isOnHost = ({ args }: MethodSpec): boolean =>
  Object.values(args).some(({ kind }) => kind === "integer");

function traceMethod(module: Module, name: string, spec: MethodSpec, bounds: Bounds): Graph {
  const method: unknown = Reflect.get(module, name);
  if (typeof method !== "function")
    throw new InternalError("trace", `the spec names ${name}, which the module does not have`);
  const inputs = Object.entries(spec.args).map(([key, argument]) => inputOf(key, argument, bounds));
  const args = inputs.map((node) =>
    node.type.dtype === "cache" ? new PagedKVCache(node) : new Tensor(node),
  );
  const result = (method as Method).apply(module, args);
  const results = Object.entries(result instanceof Tensor ? { [spec.returns]: result } : result);
  const outputs = results.map(([name, { node }]) => ({ name, node }));
  return graphOf(name, inputs, outputs);
}

function inputOf(name: string, argument: ArgumentSpec, bounds: Bounds): Node {
  if (argument.kind !== "tensor") return input(name, "cache", []);
  const shape = argument.shape.map((size): Dim => {
    if (typeof size === "number") return size;
    if (Object.hasOwn(bounds, size)) return symbolic(size, bounds[size].min, bounds[size].max);
    throw new InternalError("trace", `no bounds for the size ${size}`);
  });
  return input(name, argument.dtype, shape);
}
