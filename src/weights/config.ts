import { InputError, UnsupportedError } from "../base/errors.ts";
import type { Metadata } from "./gguf-header.ts";
import type { Json } from "./json.ts";
import { nameIn, type Dialect } from "./names.ts";
import { rowsOf, type CheckpointTensor } from "./tensors.ts";

/** Architectures that the Mistral module computes, as config.json and GGUF name them. */
const architectures = ["MistralForCausalLM", "LlamaForCausalLM", "mistral", "llama"] as const;
const ggufArchitectures: readonly unknown[] = ["llama", "mistral"];

/** Keys of GGUF behind the architecture's name, and the fields of config.json that they are. */
const ggufFields: ReadonlyMap<string, string> = new Map([
  ["embedding_length", "hidden_size"],
  ["feed_forward_length", "intermediate_size"],
  ["block_count", "num_hidden_layers"],
  ["attention.head_count", "num_attention_heads"],
  ["attention.head_count_kv", "num_key_value_heads"],
  ["attention.layer_norm_rms_epsilon", "rms_norm_eps"],
  ["attention.key_length", "head_dim"],
  ["attention.sliding_window", "sliding_window"],
  ["rope.freq_base", "rope_theta"],
  ["context_length", "max_position_embeddings"],
  ["expert_count", "num_local_experts"],
  ["vocab_size", "vocab_size"],
]);
const required = [
  "embedding_length",
  "feed_forward_length",
  "block_count",
  "attention.head_count",
  "attention.layer_norm_rms_epsilon",
];
/** Keys that change what is computed, and the values with which they do not. */
const neutral: ReadonlyMap<string, readonly unknown[]> = new Map([
  ["attention.causal", [true]],
  ["attention.scale", [0]],
  ["attention.clamp_kqv", [0]],
  ["attention.max_alibi_bias", [0]],
  ["attention.temperature_scale", [0, 1]],
  ["attn_logit_softcapping", [0]],
  ["final_logit_softcapping", [0]],
  ["logit_scale", [0, 1]],
  ["residual_scale", [0, 1]],
  ["embedding_scale", [0, 1]],
  ["use_parallel_residual", [false]],
]);
/** Keys that say how large a head is; all of it is turned, and values are as long as keys. */
const headSizes = ["rope.dimension_count", "attention.value_length"];
/** Keys that are read apart from `ggufFields`, or say nothing about the computation. */
const understood: ReadonlySet<string> = new Set([
  ...headSizes,
  "expert_used_count",
  "rope.scale_linear",
  "rope.scaling.factor",
  "rope.scaling.finetuned",
  "rope.scaling.original_context_length",
  "rope.scaling.type",
  "tensor_data_layout",
]);

/** Fields of Mistral's own params.json that config.json has under another name. */
const paramsFields: ReadonlyMap<string, string> = new Map([
  ["dim", "hidden_size"],
  ["hidden_dim", "intermediate_size"],
  ["n_layers", "num_hidden_layers"],
  ["n_heads", "num_attention_heads"],
  ["n_kv_heads", "num_key_value_heads"],
  ["norm_eps", "rms_norm_eps"],
  ["max_seq_len", "max_position_embeddings"],
  ["tied_embeddings", "tie_word_embeddings"],
  ["moe", "num_local_experts"],
  ["quantization", "quantization_config"],
]);

/**
 * The metadata of a GGUF file under the names of config.json; unknown keys keep theirs, and MistralConfig reports them. Errors:
 * InputError, UnsupportedError, with the key.
 */
export function configOfGguf(
  path: string,
  metadata: Metadata,
  tensors: readonly CheckpointTensor[],
): Json {
  const architecture = metadata.get("general.architecture");
  if (!ggufArchitectures.includes(architecture))
    throw new UnsupportedError(
      "architecture",
      `${path}: general.architecture: expected ${ggufArchitectures.join(" or ")}, got ${JSON.stringify(architecture)}`,
      { architecture },
    );
  const prefix = `${String(architecture)}.`;
  const number = (name: string): number | undefined => {
    const value = metadata.get(prefix + name);
    if (typeof value === "number" || (value === undefined && !required.includes(name)))
      return value;
    const problem = value === undefined ? "is missing" : `expected a number, got ${typeof value}`;
    const key = prefix + name;
    throw new InputError("gguf-key", `${path}: ${key}: ${problem}; convert the model again`, {
      key,
    });
  };
  const json: Record<string, unknown> = {};
  for (const [name, field] of ggufFields) {
    const value = number(name);
    if (value !== undefined) json[field] = value;
  }
  for (const [key, value] of metadata) {
    const name = key.slice(prefix.length);
    if (!key.startsWith(prefix) || ggufFields.has(name) || understood.has(name)) continue;
    if (!neutral.has(name)) json[key] = value;
    else if (!neutral.get(name)?.includes(value))
      throw new UnsupportedError(
        "gguf-key",
        `${path}: ${key}: ${String(value).slice(0, 40)} changes what is computed and is not supported; take another model`,
        { key },
      );
  }
  const dim = json.head_dim ?? Number(json.hidden_size) / Number(json.num_attention_heads);
  for (const key of headSizes) {
    const size = number(key) ?? dim;
    if (size !== dim)
      throw new UnsupportedError(
        "head-dim",
        `${path}: ${key}: expected the head's dimension ${String(dim)}, got ${String(size)}`,
        { key },
      );
  }
  const factor = number("rope.scaling.factor") ?? number("rope.scale_linear") ?? 1;
  const scaling = metadata.get(`${prefix}rope.scaling.type`) ?? "linear"; // as llama.cpp has it
  const isPlain = scaling === "none" || (scaling === "linear" && (factor === 0 || factor === 1));
  if (!isPlain) json.rope_scaling = { rope_type: scaling, factor };
  const factors = tensors.find(({ name }) => /^rope_(freqs|factors)/.test(name));
  if (factors) json.rope_scaling = { rope_type: "llama3", tensor: factors.name };
  return completed(json, tensors, "gguf");
}

/** params.json under the names of config.json; unknown keys keep theirs, to be reported with the rest. */
export function configOfParams(params: Json, tensors: readonly CheckpointTensor[]): Json {
  const json = Object.fromEntries(
    Object.entries(params).map(([key, value]) => [paramsFields.get(key) ?? key, value]),
  );
  if (params.yarn) json.rope_scaling = { rope_type: "yarn" };
  return completed(json, tensors, "consolidated");
}

/** What tensors say where the config does not (some have -1 words): the vocabulary, and whether its table is the head. */
function completed(
  json: Record<string, unknown>,
  tensors: readonly CheckpointTensor[],
  dialect: Dialect,
): Json {
  const find = (name: string): CheckpointTensor | undefined =>
    tensors.find((tensor) => tensor.name === nameIn(dialect, name));
  const embedding = find("model.embed_tokens.weight");
  const words = json.vocab_size ?? 0;
  if (embedding && typeof words === "number" && words <= 0)
    json.vocab_size = rowsOf(embedding.shape);
  json.tie_word_embeddings ??= find("lm_head.weight") === undefined;
  return json;
}

/** Errors: UnsupportedError where config.json is of an architecture that the Mistral module does not compute. */
export function checkArchitecture(where: string, { architectures: named, model_type }: Json): void {
  const given: unknown = Array.isArray(named) && named.length > 0 ? named[0] : model_type;
  if (given === undefined || architectures.some((known) => known === given)) return;
  throw new UnsupportedError(
    "architecture",
    `${where}: architectures: expected ${architectures.join(", ")}, got ${JSON.stringify(given)}`,
    { architecture: given },
  );
}
