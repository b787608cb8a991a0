import type { Json } from "./json.ts";
import { rowsOf, type CheckpointTensor } from "./tensors.ts";

/** Fields of Mistral's own params.json and the fields of config.json that they are. */
const fieldOf: Readonly<Record<string, string>> = {
  dim: "hidden_size",
  hidden_dim: "intermediate_size",
  n_layers: "num_hidden_layers",
  n_heads: "num_attention_heads",
  n_kv_heads: "num_key_value_heads",
  head_dim: "head_dim",
  norm_eps: "rms_norm_eps",
  vocab_size: "vocab_size",
  rope_theta: "rope_theta",
  sliding_window: "sliding_window",
  max_seq_len: "max_position_embeddings",
  max_position_embeddings: "max_position_embeddings",
  tied_embeddings: "tie_word_embeddings",
  moe: "num_local_experts",
  quantization: "quantization_config",
};

/** params.json under the names of config.json; unknown keys keep theirs, to be reported with the rest. */
export function configOfParams(params: Json, tensors: readonly CheckpointTensor[]): Json {
  const json: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(params))
    json[Object.hasOwn(fieldOf, key) ? fieldOf[key] : key] = value;
  if (params.yarn) json.rope_scaling = { rope_type: "yarn" };
  const embedding = tensors.find(({ name }) => name === "tok_embeddings.weight");
  const { vocab_size: vocab } = json;
  const isGiven =
    vocab !== undefined && vocab !== null && !(typeof vocab === "number" && vocab <= 0);
  if (embedding && !isGiven) json.vocab_size = rowsOf(embedding.shape);
  json.tie_word_embeddings ??= !tensors.some(({ name }) => name === "output.weight");
  return json;
}
