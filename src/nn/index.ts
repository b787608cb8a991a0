/** What one writes models in. */
export { PagedKVCache, type AttentionOptions } from "./attention.ts";
export { Embedding, Linear, RMSNorm } from "./layers.ts";
export { Module, Parameter } from "./module.ts";
export type { ParameterOptions, ParameterSource, ShardSingleDim } from "./module.ts";
export { cacheSpec, integerSpec, tensorSpec } from "./spec.ts";
export type { ArgumentSpec, Bounds, MethodSpec, ModuleSpec } from "./spec.ts";
export { concat, Tensor } from "./tensor.ts";
