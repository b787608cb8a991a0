/** The shapes that are measured, their tensors, and in which format each is stored. */
import { formatBytes, formatNames, type FormatName } from "../src/quant/formats.ts";

export interface Shape {
  readonly hidden: number;
  readonly intermediate: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly vocab: number;
  /** The head is the token embedding. */
  readonly tied?: boolean;
}
export type ShapeName = "tiny" | "135m" | "1.1b" | "7b";

export const shapes: Readonly<Record<ShapeName, Shape>> = {
  tiny: { hidden: 256, intermediate: 512, layers: 4, heads: 4, kvHeads: 2, vocab: 512 },
  // SmolLM2-135M, the bundled model
  "135m": {
    hidden: 576,
    intermediate: 1536,
    layers: 30,
    heads: 9,
    kvHeads: 3,
    vocab: 49152,
    tied: true,
  },
  "1.1b": { hidden: 2048, intermediate: 5632, layers: 22, heads: 32, kvHeads: 4, vocab: 32000 },
  // Mistral-7B
  "7b": { hidden: 4096, intermediate: 14336, layers: 32, heads: 32, kvHeads: 8, vocab: 32000 },
};

/** A weight by its names in GGUF and in Hugging Face's layout; dims as in the latter: [rows, columns], or [columns]. */
export interface Tensor {
  readonly gguf: string;
  readonly hf: string;
  readonly dims: readonly number[];
  readonly format: FormatName;
}

/** All weights in one format, or one of llama.cpp's mixes. */
export type Mix = FormatName | "q4_k_m";
export const isMix = (name: string): name is Mix =>
  name === "q4_k_m" || (formatNames as readonly string[]).includes(name);

/** Layers whose attn_v and ffn_down have more bits in Q4_K_M (`use_more_bits` in llama.cpp's llama-quant.cpp). */
const hasMoreBits = (layer: number, layers: number): boolean => {
  const eighth = Math.floor(layers / 8);
  return layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2;
};

/** Unlike llama.cpp's `quantize`, a single format is also that of the head; so was it in the spikes. */
function formatOf(mix: Mix, isRich: boolean): FormatName {
  if (mix !== "q4_k_m") return mix;
  return isRich ? "q6_k" : "q4_k";
}

/** All weights of a model in the order of the file. Norms are f32, but for safetensors, which have one type. */
export function tensorsOf(shape: Shape, mix: Mix, norms: FormatName = "f32"): Tensor[] {
  const { hidden, intermediate, layers, heads, kvHeads, vocab, tied } = shape;
  const kv = (hidden / heads) * kvHeads;
  const plain = formatOf(mix, false);
  const embedding = formatOf(mix, tied === true);
  const top: Tensor[] = [
    { gguf: "token_embd", hf: "model.embed_tokens", dims: [vocab, hidden], format: embedding },
    { gguf: "output_norm", hf: "model.norm", dims: [hidden], format: norms },
  ];
  if (!tied)
    top.push({ gguf: "output", hf: "lm_head", dims: [vocab, hidden], format: formatOf(mix, true) });
  const layer = (at: number): Tensor[] => {
    const rich = formatOf(mix, hasMoreBits(at, layers));
    const tensor = (
      gguf: string,
      hf: string,
      dims: readonly number[],
      format: FormatName,
    ): Tensor => ({ gguf: `blk.${at}.${gguf}`, hf: `model.layers.${at}.${hf}`, dims, format });
    return [
      tensor("attn_norm", "input_layernorm", [hidden], norms),
      tensor("attn_q", "self_attn.q_proj", [hidden, hidden], plain),
      tensor("attn_k", "self_attn.k_proj", [kv, hidden], plain),
      tensor("attn_v", "self_attn.v_proj", [kv, hidden], rich),
      tensor("attn_output", "self_attn.o_proj", [hidden, hidden], plain),
      tensor("ffn_norm", "post_attention_layernorm", [hidden], norms),
      tensor("ffn_gate", "mlp.gate_proj", [intermediate, hidden], plain),
      tensor("ffn_up", "mlp.up_proj", [intermediate, hidden], plain),
      tensor("ffn_down", "mlp.down_proj", [hidden, intermediate], rich),
    ];
  };
  return [...top, ...Array.from({ length: layers }, (_, at) => layer(at)).flat()];
}

export const countOf = ({ dims }: Tensor): number => dims.reduce((a, b) => a * b, 1);

/** Errors: InputError where rows are not whole blocks of the format. */
export function bytesOf(tensor: Tensor): number {
  const columns = tensor.dims.at(-1) ?? 0;
  return formatBytes(tensor.format, columns) * (countOf(tensor) / columns);
}

/** Multiplications with weights that a row of a prefill costs: those of the layers; the head sees only the last row. */
export const prefillMacs = (shape: Shape): number =>
  tensorsOf(shape, "f32")
    .filter(({ gguf }) => gguf.startsWith("blk."))
    .reduce((sum, tensor) => sum + countOf(tensor), 0);
