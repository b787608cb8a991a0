/** What one writes models in. */
export { Embedding, Linear, RMSNorm } from "./layers.ts";
export { Module, Parameter } from "./module.ts";
export type { ParameterOptions, ParameterSource, ShardSingleDim } from "./module.ts";
export { cacheSpec, integerSpec, tensorSpec } from "./spec.ts";
export type { ArgumentSpec, Bounds, MethodSpec, ModuleSpec } from "./spec.ts";
export { concat, PagedKVCache, Tensor, type AttentionOptions } from "./tensor.ts";
