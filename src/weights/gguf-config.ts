import { InputError, UnsupportedError } from "../base/errors.ts";
import type { Json } from "./file.ts";
import type { Metadata } from "./gguf.ts";
import { rowsOf, type CheckpointTensor } from "./tensors.ts";

/** Architectures of GGUF that the Mistral module computes. */
const architectures: readonly string[] = ["llama", "mistral"];

/** Keys behind the architecture's name and the fields of config.json that they are. */
const fieldOf: Readonly<Record<string, string>> = {
  embedding_length: "hidden_size",
  feed_forward_length: "intermediate_size",
  block_count: "num_hidden_layers",
  "attention.head_count": "num_attention_heads",
  "attention.head_count_kv": "num_key_value_heads",
  "attention.layer_norm_rms_epsilon": "rms_norm_eps",
  "attention.key_length": "head_dim",
  "attention.sliding_window": "sliding_window",
  "rope.freq_base": "rope_theta",
  context_length: "max_position_embeddings",
  expert_count: "num_local_experts",
  vocab_size: "vocab_size",
};

/** The metadata of a GGUF file under the names of config.json. Errors: InputError, UnsupportedError, with the key. */
export function configOf(
  path: string,
  metadata: Metadata,
  tensors: readonly CheckpointTensor[],
): Json {
  const architecture = metadata.get("general.architecture");
  if (typeof architecture !== "string" || !architectures.includes(architecture))
    throw new UnsupportedError(
      "architecture",
      `${path}: general.architecture: expected ${architectures.join(" or ")}, got ${JSON.stringify(architecture)}`,
      { architecture },
    );
  const number = (key: string): number | undefined => {
    const value = metadata.get(`${architecture}.${key}`);
    if (value === undefined || typeof value === "number") return value;
    throw new InputError(
      "gguf-key",
      `${path}: ${architecture}.${key}: expected a number, got ${typeof value}`,
      { key },
    );
  };
  const json: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(fieldOf)) {
    const value = number(key);
    if (value !== undefined) json[field] = value;
  }
  const embedding = tensors.find(({ name }) => name === "token_embd.weight");
  if (embedding) json.vocab_size ??= rowsOf(embedding.shape);
  json.tie_word_embeddings = !tensors.some(({ name }) => name === "output.weight");
  checkRotary(path, json, number("rope.dimension_count"), number("attention.value_length"));
  const scaling = metadata.get(`${architecture}.rope.scaling.type`);
  if (scaling !== undefined && scaling !== "none") json.rope_scaling = { rope_type: scaling };
  if (tensors.some(({ name }) => name === "rope_freqs.weight"))
    json.rope_scaling = { rope_type: "llama3" };
  return json;
}

function checkRotary(
  path: string,
  json: Json,
  rotary: number | undefined,
  value: number | undefined,
): void {
  const dim = json.head_dim ?? Number(json.hidden_size) / Number(json.num_attention_heads);
  for (const [key, size] of Object.entries({
    "rope.dimension_count": rotary,
    "attention.value_length": value,
  }))
    if (size !== undefined && size !== dim)
      throw new UnsupportedError(
        "head-dim",
        `${path}: ${key}: expected the head's dimension ${String(dim)}, got ${size}`,
        { key },
      );
}

/** Ids that begin a text and that end an answer. */
export function specialIdsOf(metadata: Metadata): { bos: number | undefined; eos: number[] } {
  const id = (name: string): number | undefined => {
    const value = metadata.get(`tokenizer.ggml.${name}_token_id`);
    return typeof value === "number" ? value : undefined;
  };
  const eos = ["eos", "eot", "eom"].flatMap((name) => id(name) ?? []);
  return { bos: id("bos"), eos: [...new Set(eos)] };
}
