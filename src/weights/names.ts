/** How a checkpoint names its tensors. Parameters of modules have the names of Hugging Face checkpoints. */
export type Kind = "safetensors" | "gguf" | "consolidated";

/** Behind `model.layers.N.`, `blk.N.` and `layers.N.` for those of a layer; before `.weight`. */
const names: ReadonlyMap<string, Record<Exclude<Kind, "safetensors">, string>> = new Map([
  ["model.embed_tokens", { gguf: "token_embd", consolidated: "tok_embeddings" }],
  ["model.norm", { gguf: "output_norm", consolidated: "norm" }],
  ["lm_head", { gguf: "output", consolidated: "output" }],
  ["self_attn.q_proj", { gguf: "attn_q", consolidated: "attention.wq" }],
  ["self_attn.k_proj", { gguf: "attn_k", consolidated: "attention.wk" }],
  ["self_attn.v_proj", { gguf: "attn_v", consolidated: "attention.wv" }],
  ["self_attn.o_proj", { gguf: "attn_output", consolidated: "attention.wo" }],
  ["mlp.gate_proj", { gguf: "ffn_gate", consolidated: "feed_forward.w1" }],
  ["mlp.up_proj", { gguf: "ffn_up", consolidated: "feed_forward.w3" }],
  ["mlp.down_proj", { gguf: "ffn_down", consolidated: "feed_forward.w2" }],
  ["input_layernorm", { gguf: "attn_norm", consolidated: "attention_norm" }],
  ["post_attention_layernorm", { gguf: "ffn_norm", consolidated: "ffn_norm" }],
]);
const layerPrefix = { gguf: "blk", consolidated: "layers" } as const;

/** The name that a kind has for a tensor of Hugging Face's name. */
export function nameIn(kind: Kind, name: string): string {
  const [, layer, inner] = /^(?:model\.layers\.(\d+)\.)?(.+)\.weight$/.exec(name) ?? [];
  const known = names.get(inner);
  if (kind === "safetensors" || known === undefined) return name;
  const prefix = layer === undefined ? "" : `${layerPrefix[kind]}.${layer}.`;
  return `${prefix}${known[kind]}.weight`;
}

/** Whether rows of Q and K lie interleaved, for rotary positions that turn adjacent pairs. */
export const interleavesHeads = (kind: Kind): boolean => kind !== "safetensors";
