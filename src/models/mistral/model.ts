import type { Dim } from "../../ir/dim.ts";
import { Embedding, Linear, RMSNorm } from "../../nn/layers.ts";
import { Module } from "../../nn/module.ts";
import { cacheSpec as cache, integerSpec as integer, tensorSpec } from "../../nn/spec.ts";
import type { ModuleSpec } from "../../nn/spec.ts";
import type { AttentionOptions, PagedKVCache, Tensor } from "../../nn/tensor.ts";
import type { MistralConfig } from "./config.ts";

/** A projection that the checkpoint has in parts, one below the other by name and rows; shards hold a piece of each. */
function fused(inFeatures: number, parts: Readonly<Record<string, number>>): Linear {
  const segments = Object.values(parts);
  const outFeatures = segments.reduce((a, b) => a + b);
  const sources = Object.entries(parts).map(([name, rows]) => ({ name: `${name}.weight`, rows }));
  const shard = { axis: 0, segments };
  return new Linear(inFeatures, outFeatures, { shard, stackedFrom: sources });
}

/** down(silu(gate(x)) × up(x)), gate and up fused into one matrix. x [rows, hidden] → [rows, hidden]. */
export class MistralMLP extends Module {
  readonly gate_up_proj: Linear;
  readonly down_proj: Linear;

  constructor({ hidden_size: hidden, intermediate_size: inner }: MistralConfig) {
    super();
    this.gate_up_proj = fused(hidden, { gate_proj: inner, up_proj: inner });
    this.down_proj = new Linear(inner, hidden, { shard: { axis: 1 } });
  }

  forward(x: Tensor): Tensor {
    const [gate, up] = this.gate_up_proj.forward(x).split(2);
    return this.down_proj.forward(gate.silu().mul(up));
  }
}

/** Grouped-query attention over the paged cache, q, k and v fused into one matrix. x [rows, hidden] → [rows, hidden]. */
export class MistralAttention extends Module {
  readonly qkv_proj: Linear;
  readonly o_proj: Linear;
  readonly #options: AttentionOptions;

  constructor(config: MistralConfig, layer: number) {
    super();
    const { hidden_size: hidden, num_attention_heads: heads, head_dim: headDim } = config;
    const { num_key_value_heads: kvHeads, position_embedding_base: ropeBase } = config;
    const [query, key] = [heads * headDim, kvHeads * headDim];
    this.#options = { layer, heads, kvHeads, headDim, ropeBase };
    this.qkv_proj = fused(hidden, { q_proj: query, k_proj: key, v_proj: key });
    this.o_proj = new Linear(query, hidden, { shard: { axis: 1 } });
  }

  forward(x: Tensor, cache: PagedKVCache): Tensor {
    return this.o_proj.forward(cache.attention(this.qkv_proj.forward(x), this.#options));
  }
}

/** Pre-norm attention and MLP, each added to the residual stream. x [rows, hidden] → [rows, hidden]. */
export class MistralDecoderLayer extends Module {
  readonly self_attn: MistralAttention;
  readonly mlp: MistralMLP;
  readonly input_layernorm: RMSNorm;
  readonly post_attention_layernorm: RMSNorm;

  constructor(config: MistralConfig, layer: number) {
    super();
    this.self_attn = new MistralAttention(config, layer);
    this.mlp = new MistralMLP(config);
    this.input_layernorm = new RMSNorm(config.hidden_size, config.rms_norm_eps);
    this.post_attention_layernorm = new RMSNorm(config.hidden_size, config.rms_norm_eps);
  }

  forward(x: Tensor, cache: PagedKVCache): Tensor {
    const attended = x.add(this.self_attn.forward(this.input_layernorm.forward(x), cache));
    return attended.add(this.mlp.forward(this.post_attention_layernorm.forward(attended)));
  }
}

/** Embedding table, layers and the last norm. x [rows, hidden] → [rows, hidden]. */
export class MistralModel extends Module {
  readonly embed_tokens: Embedding;
  readonly layers: readonly MistralDecoderLayer[];
  readonly norm: RMSNorm;

  constructor(config: MistralConfig) {
    super();
    const { vocab_size: vocab, hidden_size: hidden, num_hidden_layers: length } = config;
    this.embed_tokens = new Embedding(vocab, hidden);
    this.layers = Array.from({ length }, (_, layer) => new MistralDecoderLayer(config, layer));
    this.norm = new RMSNorm(hidden, config.rms_norm_eps);
  }

  forward(x: Tensor, cache: PagedKVCache): Tensor {
    return this.norm.forward(this.layers.reduce((state, layer) => layer.forward(state, cache), x));
  }
}

/** The language model: the functions that are compiled, with their spec (DESIGN §2, after MLC LLM's Mistral module). */
export class MistralForCausalLM extends Module {
  readonly model: MistralModel;
  /** Absent where the head is the embedding table. */
  readonly lm_head: Linear | undefined;
  readonly config: MistralConfig;

  constructor(config: MistralConfig) {
    super();
    this.config = config;
    this.model = new MistralModel(config);
    if (!config.tie_word_embeddings)
      this.lm_head = new Linear(config.hidden_size, config.vocab_size, { shard: { axis: 0 } });
  }

  /** Logits of the last state of some rows, with `leading` axes in front. */
  #logits(state: Tensor, ...leading: Dim[]): Tensor {
    const logits = this.lm_head?.forward(state) ?? this.model.embed_tokens.head(state);
    return logits.reshape([...leading, logits.shape[1]]);
  }

  /** ids [seq_len] → [seq_len, hidden]. */
  embed(ids: Tensor): Tensor {
    return this.model.embed_tokens.forward(ids);
  }

  /** Logits at `positions` (rows of the step) only: gathered before the head. [1, rows, hidden] → [1, positions, vocab]. */
  batch_prefill(embeddings: Tensor, logit_positions: Tensor, cache: PagedKVCache): Tensor {
    const state = this.model.forward(embeddings.rows(), cache);
    return this.#logits(state.take(logit_positions), 1, logit_positions.shape[0]);
  }

  /** Logits of the last token. [1, seq_len, hidden] → [1, 1, vocab]. */
  prefill(embeddings: Tensor, cache: PagedKVCache): Tensor {
    return this.#logits(this.model.forward(embeddings.rows(), cache).lastRow(), 1, 1);
  }

  /** [1, 1, hidden] → [1, 1, vocab]. */
  decode(embeddings: Tensor, cache: PagedKVCache): Tensor {
    return this.batch_verify(embeddings, cache);
  }

  /** One token of each sequence. [batch, 1, hidden] → [batch, 1, vocab]. */
  batch_decode(embeddings: Tensor, cache: PagedKVCache): Tensor {
    return this.batch_verify(embeddings, cache);
  }

  /** Logits of every position. [1, seq_len, hidden] → [1, seq_len, vocab]. */
  batch_verify(embeddings: Tensor, cache: PagedKVCache): Tensor {
    const state = this.model.forward(embeddings.rows(), cache);
    return this.#logits(state, ...embeddings.shape.slice(0, -1));
  }

  getDefaultSpec(): ModuleSpec {
    const { hidden_size: hidden } = this.config;
    const common = { returns: "logits", param_mode: "packed", effect_mode: "none" } as const;
    const logit_positions = tensorSpec(["batch_size"], "i32");
    const rows = tensorSpec([1, "seq_len", hidden]);
    const batch = tensorSpec(["batch_size", 1, hidden]);
    const tokens = { max_total_seq_len: integer, prefill_chunk_size: integer, page_size: integer };
    const sizes = { max_batch_size: integer, ...tokens, support_sliding_window: integer };
    return {
      embed: { ...common, args: { ids: tensorSpec(["seq_len"], "i32") }, returns: "embeddings" },
      prefill: { ...common, args: { embeddings: rows, cache } },
      decode: { ...common, args: { embeddings: tensorSpec([1, 1, hidden]), cache } },
      batch_prefill: { ...common, args: { embeddings: rows, logit_positions, cache } },
      batch_decode: { ...common, args: { embeddings: batch, cache } },
      batch_verify: { ...common, args: { embeddings: rows, cache } },
      create_paged_kv_cache: { ...common, args: sizes, returns: "cache", param_mode: "none" },
    };
  }

  get_default_spec(): ModuleSpec {
    return this.getDefaultSpec();
  }
}

/** @deprecated The historic misspelling of MistralForCausalLM. */
export const MistralForCasualLM: typeof MistralForCausalLM = MistralForCausalLM;
