import { refusal, UnsupportedError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import type { Gguf } from "./gguf.ts";
import { nameIn, type Kind } from "./names.ts";
import { rowsOf, type CheckpointTensor } from "./tensors.ts";

type Fields = Record<string, unknown>;
/** A field of config.json: its key in GGUF, behind the architecture's name, and in Mistral's own params.json. */
type Field = readonly [field: string, gguf: string, params: string, required?: "required"];
const fields: readonly Field[] = [
  ["hidden_size", "embedding_length", "dim", "required"],
  ["intermediate_size", "feed_forward_length", "hidden_dim", "required"],
  ["num_hidden_layers", "block_count", "n_layers", "required"],
  ["num_attention_heads", "attention.head_count", "n_heads", "required"],
  ["rms_norm_eps", "attention.layer_norm_rms_epsilon", "norm_eps", "required"],
  ["num_key_value_heads", "attention.head_count_kv", "n_kv_heads"],
  ["head_dim", "attention.key_length", "head_dim"],
  ["sliding_window", "attention.sliding_window", "sliding_window"],
  ["rope_theta", "rope.freq_base", "rope_theta"],
  ["max_position_embeddings", "context_length", "max_seq_len"],
  ["num_local_experts", "expert_count", "moe"],
  ["vocab_size", "vocab_size", "vocab_size"],
];
const ofParams = new Map<string, string>([
  ...fields.map(([field, , key]) => [key, field] as const),
  ["tied_embeddings", "tie_word_embeddings"],
  ["quantization", "quantization_config"],
]);
/** Keys of GGUF that are no fields, and the values with which they do not change what is computed. */
const neutral: readonly (readonly [keys: string, ...values: unknown[]])[] = [
  ["attention.causal", true],
  ["attention.scale attention.clamp_kqv attention.max_alibi_bias", 0],
  ["attn_logit_softcapping final_logit_softcapping", 0],
  ["attention.temperature_scale logit_scale residual_scale embedding_scale", 0, 1],
  ["use_parallel_residual", false],
];
/** Others that change nothing whatever they are. */
const ignored =
  "expert_used_count rope.scaling.finetuned rope.scaling.original_context_length tensor_data_layout";

/**
 * The metadata of a GGUF file under the names of config.json; unknown keys keep theirs, and MistralConfig reports them. Errors:
 * InputError, UnsupportedError, with the key.
 */
export function configOfGguf(path: string, { metadata, tensors }: Gguf): Json {
  const refuse = (code: string, key: string, problem: string): never => {
    throw new UnsupportedError(code, `${path}: ${key}: ${problem}`, { key });
  };
  const architecture = metadata.get("general.architecture");
  checkArchitecture(`${path}: general.architecture`, architecture, ["llama", "mistral"]);
  const keyOf = (name: string): string => `${String(architecture)}.${name}`;
  const unread = new Map([...metadata].filter(([key]) => key.startsWith(keyOf(""))));
  const take = (name: string): unknown => {
    unread.delete(keyOf(name));
    return metadata.get(keyOf(name));
  };
  const number = (name: string, required?: "required"): number | undefined => {
    const value = take(name);
    if (typeof value === "number" || (value === undefined && !required)) return value;
    const problem = value === undefined ? "is missing" : `expected a number, got ${typeof value}`;
    return refusal("gguf-key", `${path}: ${keyOf(name)}`)(`${problem}; convert the model again`);
  };
  const json: Fields = {};
  for (const [field, name, , required] of fields) json[field] = number(name, required);
  for (const [keys, ...values] of neutral)
    for (const name of keys.split(" ")) {
      const value = take(name) ?? values[0];
      const shown = String(value).slice(0, 40);
      const problem = `${shown} changes what is computed and is not supported; take another model`;
      if (!values.includes(value)) refuse("gguf-key", keyOf(name), problem);
    }
  ignored.split(" ").forEach(take);
  // All of a head is turned, and values are as long as keys.
  const dim = json.head_dim ?? Number(json.hidden_size) / Number(json.num_attention_heads);
  for (const name of ["rope.dimension_count", "attention.value_length"]) {
    const size = number(name) ?? dim;
    if (size !== dim)
      refuse("head-dim", name, `expected the head's dimension ${String(dim)}, got ${String(size)}`);
  }
  const linear = number("rope.scale_linear") ?? 1;
  const factor = number("rope.scaling.factor") ?? linear;
  const scaling = take("rope.scaling.type") ?? "linear"; // as llama.cpp has it
  const isPlain = scaling === "none" || (scaling === "linear" && (factor === 0 || factor === 1));
  if (!isPlain) json.rope_scaling = { rope_type: scaling, factor };
  const table = tensors.find(({ name }) => /^rope_(freqs|factors)/.test(name));
  if (table) json.rope_scaling = { rope_type: "llama3", tensor: table.name };
  for (const [key, value] of unread) json[key] = value;
  return completed(json, tensors, "gguf");
}

/** params.json under the names of config.json; unknown keys keep theirs, to be reported with the rest. */
export function configOfParams(params: Json, tensors: readonly CheckpointTensor[]): Json {
  const json: Fields = {};
  for (const [key, value] of Object.entries(params)) json[ofParams.get(key) ?? key] = value;
  if (params.yarn) json.rope_scaling = { rope_type: "yarn" };
  return completed(json, tensors, "consolidated");
}

/** With what tensors say where the config does not (or has -1 words): the vocabulary, and whether its table is the head. */
function completed(json: Fields, tensors: readonly CheckpointTensor[], kind: Kind): Json {
  const find = (name: string): CheckpointTensor | undefined =>
    tensors.find((tensor) => tensor.name === nameIn(kind, name));
  const table = find("model.embed_tokens.weight");
  const words = json.vocab_size ?? 0;
  if (table && typeof words === "number" && words <= 0) json.vocab_size = rowsOf(table.shape);
  json.tie_word_embeddings ??= find("lm_head.weight") === undefined;
  return json;
}

/** Errors: UnsupportedError where config.json names an architecture that the Mistral module does not compute. */
export function checkConfig(where: string, { architectures: named, model_type }: Json): void {
  const given: unknown = Array.isArray(named) && named.length > 0 ? named[0] : model_type;
  const known = ["MistralForCausalLM", "LlamaForCausalLM", "mistral", "llama"];
  if (given !== undefined) checkArchitecture(`${where}: architectures`, given, known);
}

function checkArchitecture(where: string, architecture: unknown, known: readonly unknown[]): void {
  if (known.includes(architecture)) return;
  const problem = `expected ${known.join(" or ")}, got ${JSON.stringify(architecture)}`;
  throw new UnsupportedError("architecture", `${where}: ${problem}`, { architecture });
}
