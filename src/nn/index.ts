/** What one writes models in. */
export { PagedKVCache, type AttentionOptions } from "./attention.ts";
export { Embedding, Linear, RMSNorm } from "./layers.ts";
export {
  Module,
  Parameter,
  type ParameterOptions,
  type ParameterSource,
  type ShardSingleDim,
} from "./module.ts";
export {
  cacheSpec,
  integerSpec,
  tensorSpec,
  type ArgumentSpec,
  type Bounds,
  type MethodSpec,
  type ModuleSpec,
} from "./spec.ts";
export { concat, Tensor } from "./tensor.ts";
