import { InputError, UnsupportedError } from "../base/errors.ts";
import type { SpecialIds } from "./beside.ts";
import type { Json } from "./json.ts";
import type { Metadata } from "./gguf-header.ts";
import { rowsOf, type CheckpointTensor } from "./tensors.ts";

/** Architectures of GGUF that the Mistral module computes. */
const architectures: readonly string[] = ["llama", "mistral"];

const required = [
  "embedding_length",
  "feed_forward_length",
  "block_count",
  "attention.head_count",
  "attention.layer_norm_rms_epsilon",
];
/** Keys that change what is computed, and the values with which they do not. */
const neutral: Readonly<Record<string, readonly unknown[]>> = {
  "attention.causal": [true],
  "attention.scale": [0],
  "attention.clamp_kqv": [0],
  "attention.max_alibi_bias": [0],
  "attention.temperature_scale": [0, 1],
  attn_logit_softcapping: [0],
  final_logit_softcapping: [0],
  logit_scale: [0, 1],
  residual_scale: [0, 1],
  embedding_scale: [0, 1],
  use_parallel_residual: [false],
};
/** Keys that are read apart from `fieldOf`, or say nothing about the computation. */
const understood: ReadonlySet<string> = new Set([
  "attention.value_length",
  "expert_used_count",
  "rope.dimension_count",
  "rope.scale_linear",
  "rope.scaling.factor",
  "rope.scaling.finetuned",
  "rope.scaling.original_context_length",
  "rope.scaling.type",
  "tensor_data_layout",
]);

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
    throw wrongKey(path, `${architecture}.${key}`, `expected a number, got ${typeof value}`);
  };
  for (const key of required)
    if (number(key) === undefined) throw wrongKey(path, `${architecture}.${key}`, "is missing");
  const json = otherKeys(path, metadata, `${architecture}.`);
  for (const [key, field] of Object.entries(fieldOf)) {
    const value = number(key);
    if (value !== undefined) json[field] = value;
  }
  const embedding = tensors.find(({ name }) => name === "token_embd.weight");
  if (embedding) json.vocab_size ??= rowsOf(embedding.shape);
  json.tie_word_embeddings = !tensors.some(({ name }) => name === "output.weight");
  checkRotary(path, json, number("rope.dimension_count"), number("attention.value_length"));
  const factor = number("rope.scaling.factor") ?? number("rope.scale_linear") ?? 1;
  const scaling = metadata.get(`${architecture}.rope.scaling.type`) ?? "linear"; // as llama.cpp has it
  const isPlain = scaling === "none" || (scaling === "linear" && (factor === 0 || factor === 1));
  if (!isPlain) json.rope_scaling = { rope_type: scaling, factor };
  const factors = tensors.find(({ name }) => /^rope_(freqs|factors)/.test(name));
  if (factors) json.rope_scaling = { rope_type: "llama3", tensor: factors.name };
  return json;
}

const wrongKey = (path: string, key: string, problem: string): InputError =>
  new InputError("gguf-key", `${path}: ${key}: ${problem}; convert the model again`, { key });

/** Keys that no field stands for, under their own names: MistralConfig reports them. */
function otherKeys(path: string, metadata: Metadata, prefix: string): Record<string, unknown> {
  const json: Record<string, unknown> = {};
  for (const [key, value] of metadata) {
    const name = key.slice(prefix.length);
    if (!key.startsWith(prefix) || Object.hasOwn(fieldOf, name) || understood.has(name)) continue;
    if (!Object.hasOwn(neutral, name)) json[key] = value;
    else if (!neutral[name].includes(value))
      throw new UnsupportedError(
        "gguf-key",
        `${path}: ${key}: ${String(value).slice(0, 40)} changes what is computed and is not supported; take another model`,
        { key },
      );
  }
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
export function specialIdsOf(metadata: Metadata): SpecialIds {
  const id = (name: string): number | undefined => {
    const value = metadata.get(`tokenizer.ggml.${name}_token_id`);
    return typeof value === "number" ? value : undefined;
  };
  const eos = ["eos", "eot", "eom"].flatMap((name) => id(name) ?? []);
  return { bos: id("bos"), eos: [...new Set(eos)] };
}
