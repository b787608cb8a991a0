/** Published configurations, as their `config.json` has them. Source: huggingface.co/mistralai. */
const mistral7b = {
  hidden_size: 4096,
  intermediate_size: 14336,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  num_hidden_layers: 32,
  rms_norm_eps: 1e-5,
  max_position_embeddings: 32768,
} as const;

export type PresetName = "mistral-7b-v0.1" | "mistral-7b-v0.3";

export const presets: Readonly<Record<PresetName, Readonly<Record<string, unknown>>>> = {
  "mistral-7b-v0.1": { ...mistral7b, vocab_size: 32000, rope_theta: 1e4, sliding_window: 4096 },
  "mistral-7b-v0.3": { ...mistral7b, vocab_size: 32768, rope_theta: 1e6, sliding_window: null },
};
