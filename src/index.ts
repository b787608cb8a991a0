/** The public names of Tramontane. */
export { load, compileModule, planModule, prepare } from "./load.ts";
export type { Compilable, CompiledPlan, Prepared } from "./load.ts";
export type { CompileModuleOptions, DeviceName, LoadOptions, Progress } from "./load-options.ts";

export { Engine } from "./engine/engine.ts";
export type { Delta, FinishReason, GenerateOptions, Sampling, Usage } from "./engine/request.ts";

export { CompiledModel, type Append, type ModelShape } from "./runtime/compiled-model.ts";
export { PagedCache } from "./runtime/paged-cache.ts";

export { presets, type PresetName } from "./models/mistral/presets.ts";
export { MistralConfig } from "./models/mistral/config.ts";
export { MistralAttention, MistralDecoderLayer, MistralMLP } from "./models/mistral/model.ts";
export { MistralForCasualLM, MistralForCausalLM, MistralModel } from "./models/mistral/model.ts";

export * as nn from "./nn/index.ts";

export { openCheckpoint, type Checkpoint, type CheckpointTensor } from "./weights/checkpoint.ts";
export { bindWeights } from "./weights/bind.ts";
export type { WeightSegment, WeightSource } from "./devices/device.ts";

export { createTokenizer, type Decoder, type Tokenizer } from "./text/tokenizer.ts";
export { ChatTemplate, type Message } from "./text/chat-template.ts";

export { TramontaneError, AbortError, InternalError } from "./base/errors.ts";
export { InputError, ResourceError, UnsupportedError } from "./base/errors.ts";
