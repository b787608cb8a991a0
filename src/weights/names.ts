/** Names of tensors by dialect. Parameters of modules have the names of Hugging Face checkpoints. */
export type Dialect = "hugging-face" | "gguf" | "consolidated";

type Names = Readonly<Record<string, string>>;
const whole: Readonly<Record<Exclude<Dialect, "hugging-face">, Names>> = {
  gguf: {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
  },
  consolidated: {
    "model.embed_tokens.weight": "tok_embeddings.weight",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "output.weight",
  },
};
/** Behind `model.layers.N.`, `blk.N.` and `layers.N.`. */
const inLayer: typeof whole = {
  gguf: {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    input_layernorm: "attn_norm",
    post_attention_layernorm: "ffn_norm",
  },
  consolidated: {
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
    input_layernorm: "attention_norm",
    post_attention_layernorm: "ffn_norm",
  },
};
const layerPrefix = { gguf: "blk", consolidated: "layers" } as const;

/** The name that a dialect has for a tensor of Hugging Face's name. */
export function nameIn(dialect: Dialect, name: string): string {
  if (dialect === "hugging-face") return name;
  const known = whole[dialect][name];
  if (known !== undefined) return known;
  const found = /^model\.layers\.(\d+)\.(.+)\.weight$/.exec(name);
  const inner = found && inLayer[dialect][found[2]];
  return found && inner ? `${layerPrefix[dialect]}.${found[1]}.${inner}.weight` : name;
}

/** Whether rows of Q and K lie interleaved, for rotary positions that turn adjacent pairs. */
export const interleavesHeads = (dialect: Dialect): boolean => dialect !== "hugging-face";

/** Whether a tensor that no parameter needs may be there: tables that older exporters wrote, which are computed. */
export const mayBeLeft = (name: string): boolean => /(^|\.)rotary_emb\.inv_freq$/.test(name);
