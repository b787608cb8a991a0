// Another decoder than Mistral's, written in a page and compiled without a change anywhere else: attention and MLP side by
// side, each with a norm of its own, and a squared ReLU without a gate. The wasm device must give what the interpreter gives.
// In your project: import { … } from "tramontane";
import { compileModule, nn, type WeightSource } from "../src/index.ts";

export interface Sizes {
  readonly vocab: number;
  readonly hidden: number;
  readonly inner: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** x + attention(norm(x)) + down(relu(up(norm(x)))²). x [rows, hidden] → [rows, hidden]. */
class ParallelLayer extends nn.Module {
  readonly attention_norm: nn.RMSNorm;
  readonly mlp_norm: nn.RMSNorm;
  readonly qkv: nn.Linear;
  readonly out: nn.Linear;
  readonly up: nn.Linear;
  readonly down: nn.Linear;
  readonly #sizes: Sizes;
  readonly #layer: number;

  constructor(sizes: Sizes, layer: number) {
    super();
    const { hidden, inner, heads, kvHeads, headDim } = sizes;
    this.#sizes = sizes;
    this.#layer = layer;
    this.attention_norm = new nn.RMSNorm(hidden, 1e-6);
    this.mlp_norm = new nn.RMSNorm(hidden, 1e-6);
    this.qkv = new nn.Linear(hidden, (heads + 2 * kvHeads) * headDim);
    this.out = new nn.Linear(heads * headDim, hidden);
    this.up = new nn.Linear(hidden, inner);
    this.down = new nn.Linear(inner, hidden);
  }

  forward(x: nn.Tensor, cache: nn.PagedKVCache): nn.Tensor {
    const { heads, kvHeads, headDim } = this.#sizes;
    const qkv = this.qkv.forward(this.attention_norm.forward(x));
    const shape = { layer: this.#layer, heads, kvHeads, headDim, ropeBase: 10_000 };
    const attended = this.out.forward(cache.attention(qkv, shape));
    const inner = this.up.forward(this.mlp_norm.forward(x)).relu().square();
    return x.add(attended).add(this.down.forward(inner));
  }
}

/** Embedding, layers and the head, with the functions that are compiled. */
export class ParallelDecoder extends nn.Module {
  readonly embedding: nn.Embedding;
  readonly layers: readonly ParallelLayer[];
  readonly norm: nn.RMSNorm;
  readonly head: nn.Linear;
  readonly #hidden: number;

  constructor(sizes: Sizes) {
    super();
    this.#hidden = sizes.hidden;
    this.embedding = new nn.Embedding(sizes.vocab, sizes.hidden);
    this.layers = Array.from(
      { length: sizes.layers },
      (_, layer) => new ParallelLayer(sizes, layer),
    );
    this.norm = new nn.RMSNorm(sizes.hidden, 1e-6);
    this.head = new nn.Linear(sizes.hidden, sizes.vocab);
  }

  /** ids [seq_len] → [seq_len, hidden]. */
  embed(ids: nn.Tensor): nn.Tensor {
    return this.embedding.forward(ids);
  }

  /** Logits of some rows of the step: [seq_len, hidden] → [batch_size, vocab]. */
  batch_prefill(x: nn.Tensor, positions: nn.Tensor, cache: nn.PagedKVCache): nn.Tensor {
    const state = this.layers.reduce((value, layer) => layer.forward(value, cache), x);
    return this.head.forward(this.norm.forward(state.take(positions)));
  }

  getDefaultSpec(): nn.ModuleSpec {
    const packed = { param_mode: "packed", effect_mode: "none" } as const;
    const ids = nn.tensorSpec(["seq_len"], "i32");
    const embeddings = nn.tensorSpec(["seq_len", this.#hidden]);
    const logit_positions = nn.tensorSpec(["batch_size"], "i32");
    return {
      embed: { args: { ids }, returns: "embeddings", ...packed },
      batch_prefill: {
        args: { embeddings, logit_positions, cache: nn.cacheSpec },
        returns: "logits",
        ...packed,
      },
    };
  }
}

/** Weights as a checkpoint would give them, f32, from a formula: norms near 1, matrices near 0. */
const madeUpWeights = (module: nn.Module): WeightSource[] =>
  [...module.namedParameters()].map(([name, { shape }], seed) => {
    const [rows, columns] = shape.length === 1 ? [1, shape[0]] : shape;
    const values = Float32Array.from({ length: rows * columns }, (_, at) => {
      const noise = Math.sin((at + 1) * (seed + 1.7)) / 5;
      return shape.length === 1 ? 1 + noise : noise;
    });
    const bytes = new Uint8Array(values.buffer);
    const read = async (start: number, count: number, into: Uint8Array): Promise<void> =>
      into.set(bytes.subarray(4 * columns * start, 4 * columns * (start + count)));
    return {
      name,
      segments: [{ format: "f32", rows, columns, rowOrder: { kind: "plain" }, read }],
    };
  });

async function logitsOn(
  device: "wasm" | "interpreter",
  decoder: ParallelDecoder,
): Promise<Float32Array> {
  await using model = await compileModule(decoder, madeUpWeights(decoder), { device, chunk: 16 });
  using cache = await model.create_paged_kv_cache({ max_batch_size: 1, max_total_seq_len: 32 });
  cache.add(0);
  await model.forward(cache, [{ id: 0, tokens: [3, 1, 4, 1, 5, 9, 2] }], "last");
  return await model.forward(cache, [{ id: 0, tokens: [6, 5] }], "all");
}

if (import.meta.filename === process.argv[1]) {
  const sizes = { vocab: 50, hidden: 48, inner: 100, layers: 3, heads: 4, kvHeads: 2, headDim: 12 };
  const decoder = new ParallelDecoder(sizes);
  const [wasm, exact] = [await logitsOn("wasm", decoder), await logitsOn("interpreter", decoder)];
  const difference = Math.max(...wasm.map((value, at) => Math.abs(value - exact[at])));
  console.log(`${wasm.length} logits; wasm and interpreter differ by at most ${difference}`);
  if (difference > 1e-4) throw new Error("the devices disagree");
}
