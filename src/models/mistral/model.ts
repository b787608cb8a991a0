import { PagedKVCache } from "../../nn/attention.ts";
import { Embedding, Linear, RMSNorm } from "../../nn/layers.ts";
import { Module } from "../../nn/module.ts";
import { cacheSpec, integerSpec, tensorSpec, type ModuleSpec } from "../../nn/spec.ts";
import { Tensor } from "../../nn/tensor.ts";
import type { MistralConfig } from "./config.ts";

/** down(silu(gate(x)) × up(x)), gate and up fused into one matrix. x [rows, hidden] → [rows, hidden]. */
export class MistralMLP extends Module {
  readonly gate_up_proj: Linear;
  readonly down_proj: Linear;

  constructor({ hidden_size: hidden, intermediate_size: inner }: MistralConfig) {
    super();
    this.gate_up_proj = new Linear(hidden, 2 * inner, {
      shard: { axis: 0, segments: [inner, inner] },
      stackedFrom: [
        { name: "gate_proj.weight", rows: inner },
        { name: "up_proj.weight", rows: inner },
      ],
    });
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
  readonly #config: MistralConfig;
  readonly #layer: number;

  constructor(config: MistralConfig, layer: number) {
    super();
    const query = config.num_attention_heads * config.head_dim;
    const key = config.num_key_value_heads * config.head_dim;
    this.#config = config;
    this.#layer = layer;
    this.qkv_proj = new Linear(config.hidden_size, query + 2 * key, {
      shard: { axis: 0, segments: [query, key, key] },
      stackedFrom: [
        { name: "q_proj.weight", rows: query },
        { name: "k_proj.weight", rows: key },
        { name: "v_proj.weight", rows: key },
      ],
    });
    this.o_proj = new Linear(query, config.hidden_size, { shard: { axis: 1 } });
  }

  forward(x: Tensor, cache: PagedKVCache): Tensor {
    const attended = cache.attention(this.qkv_proj.forward(x), {
      layer: this.#layer,
      heads: this.#config.num_attention_heads,
      kvHeads: this.#config.num_key_value_heads,
      headDim: this.#config.head_dim,
      ropeBase: this.#config.position_embedding_base,
    });
    return this.o_proj.forward(attended);
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
    this.embed_tokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = Array.from(
      { length: config.num_hidden_layers },
      (_, layer) => new MistralDecoderLayer(config, layer),
    );
    this.norm = new RMSNorm(config.hidden_size, config.rms_norm_eps);
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

  #logits(x: Tensor): Tensor {
    return this.lm_head?.forward(x) ?? this.model.embed_tokens.head(x);
  }

  /** ids [seq_len] → [seq_len, hidden]. */
  embed(ids: Tensor): Tensor {
    return this.model.embed_tokens.forward(ids);
  }

  /** Logits at `positions` (rows of the step) only: gathered before the head. [1, rows, hidden] → [1, positions, vocab]. */
  batch_prefill(embeddings: Tensor, logit_positions: Tensor, cache: PagedKVCache): Tensor {
    const state = this.model.forward(embeddings.rows(), cache).take(logit_positions);
    return leading(1, this.#logits(state));
  }

  /** Logits of the last token. [1, seq_len, hidden] → [1, 1, vocab]. */
  prefill(embeddings: Tensor, cache: PagedKVCache): Tensor {
    const state = this.model.forward(embeddings.rows(), cache).lastRow();
    return leading(1, this.#logits(state));
  }

  /** [1, 1, hidden] → [1, 1, vocab]. */
  decode(embeddings: Tensor, cache: PagedKVCache): Tensor {
    return this.batch_decode(embeddings, cache);
  }

  /** One token of each sequence. [batch, 1, hidden] → [batch, 1, vocab]. */
  batch_decode(embeddings: Tensor, cache: PagedKVCache): Tensor {
    const logits = this.#logits(this.model.forward(embeddings.rows(), cache));
    return logits.reshape([embeddings.shape[0], 1, logits.shape[1]]);
  }

  /** Logits of every position. [1, seq_len, hidden] → [1, seq_len, vocab]. */
  batch_verify(embeddings: Tensor, cache: PagedKVCache): Tensor {
    return leading(1, this.#logits(this.model.forward(embeddings.rows(), cache)));
  }

  getDefaultSpec(): ModuleSpec {
    const { hidden_size: hidden } = this.config;
    const packed = { returns: "logits", param_mode: "packed", effect_mode: "none" } as const;
    const sequence = tensorSpec([1, "seq_len", hidden]);
    const batch = tensorSpec(["batch_size", 1, hidden]);
    const cache = cacheSpec;
    return {
      embed: {
        args: { ids: tensorSpec(["seq_len"], "i32") },
        ...packed,
        returns: "embeddings",
      },
      prefill: { args: { embeddings: sequence, cache }, ...packed },
      decode: { args: { embeddings: tensorSpec([1, 1, hidden]), cache }, ...packed },
      batch_prefill: {
        args: {
          embeddings: sequence,
          logit_positions: tensorSpec(["batch_size"], "i32"),
          cache,
        },
        ...packed,
      },
      batch_decode: { args: { embeddings: batch, cache }, ...packed },
      batch_verify: { args: { embeddings: sequence, cache }, ...packed },
      create_paged_kv_cache: {
        args: {
          max_batch_size: integerSpec,
          max_total_seq_len: integerSpec,
          prefill_chunk_size: integerSpec,
          page_size: integerSpec,
          support_sliding_window: integerSpec,
        },
        returns: "cache",
        param_mode: "none",
        effect_mode: "none",
      },
    };
  }

  get_default_spec(): ModuleSpec {
    return this.getDefaultSpec();
  }
}

const leading = (size: number, x: Tensor): Tensor => x.reshape([size, ...x.shape]);

/** @deprecated The historic misspelling of MistralForCausalLM. */
export const MistralForCasualLM: typeof MistralForCausalLM = MistralForCausalLM;
