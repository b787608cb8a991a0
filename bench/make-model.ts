/**
 * Deterministic random weights of a given shape and format, as a GGUF file or as a safetensors folder (f32, f16, bf16):
 *
 *   npm run bench:model -- --shape 1.1b --format q4_k_m --out bench/models/1.1b-q4_k_m.gguf
 *   npm run bench:model -- --shape tiny --format bf16 --out bench/models/tiny-bf16
 */
import { closeSync, mkdirSync, openSync, renameSync, writeFileSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { InputError } from "../src/base/errors.ts";
import { formats, isFloat } from "../src/quant/formats.ts";
import { CommandLine } from "./command-line.ts";
import { Random, weightFiller } from "./random-weights.ts";
import { bytesOf, isMix, shapes, tensorsOf } from "./shapes.ts";
import type { Mix, Shape, ShapeName, Tensor } from "./shapes.ts";

const context = 32768;
const alignment = 32;
const pieceBytes = 4 << 20; // in memory at a time
const paddingTo = (bytes: number, unit: number): number => (unit - (bytes % unit)) % unit;

/** Piece, score and type (ggml: 1 normal, 2 unknown, 3 control, 6 byte) of each id: SentencePiece's Llama layout. */
function vocabulary(size: number): { piece: string; score: number; type: number }[] {
  return Array.from({ length: size }, (_, id) => {
    if (id < 3) return { piece: ["<unk>", "<s>", "</s>"][id], score: 0, type: id === 0 ? 2 : 3 };
    const byte = (id - 3).toString(16).toUpperCase().padStart(2, "0");
    if (id < 259) return { piece: `<0x${byte}>`, score: 0, type: 6 };
    return { piece: id === 259 ? "\u2581" : `\u2581t${id}`, score: -id, type: 1 };
  });
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const f32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
};
const string = (text: string): Buffer =>
  Buffer.concat([u64(Buffer.byteLength(text)), Buffer.from(text)]);

/** GGUF's numbers for the types of metadata. */
const types = { u32: 4, i32: 5, f32: 6, string: 8, array: 9 } as const;
type Value = readonly [type: number, bytes: Buffer];
const word = (value: number): Value => [types.u32, u32(value)];
const float = (value: number): Value => [types.f32, f32(value)];
const text = (value: string): Value => [types.string, string(value)];
const array = (type: number, items: readonly Buffer[]): Value => [
  types.array,
  Buffer.concat([u32(type), u64(items.length), ...items]),
];

function metadata(name: string, shape: Shape, mix: Mix): Record<string, Value> {
  const tokens = vocabulary(shape.vocab);
  const headDim = shape.hidden / shape.heads;
  return {
    "general.architecture": text("llama"),
    "general.name": text(name),
    "general.file_type": word(mix === "q4_k_m" ? 15 : formats[mix].ggmlType),
    "general.quantization_version": word(2),
    "llama.context_length": word(context),
    "llama.embedding_length": word(shape.hidden),
    "llama.block_count": word(shape.layers),
    "llama.feed_forward_length": word(shape.intermediate),
    "llama.attention.head_count": word(shape.heads),
    "llama.attention.head_count_kv": word(shape.kvHeads),
    "llama.attention.layer_norm_rms_epsilon": float(1e-5),
    "llama.rope.freq_base": float(10000),
    "llama.rope.dimension_count": word(headDim),
    "llama.vocab_size": word(shape.vocab),
    "tokenizer.ggml.model": text("llama"),
    "tokenizer.ggml.tokens": array(
      types.string,
      tokens.map(({ piece }) => string(piece)),
    ),
    "tokenizer.ggml.scores": array(
      types.f32,
      tokens.map(({ score }) => f32(score)),
    ),
    "tokenizer.ggml.token_type": array(
      types.i32,
      tokens.map(({ type }) => u32(type)),
    ),
    "tokenizer.ggml.bos_token_id": word(1),
    "tokenizer.ggml.eos_token_id": word(2),
  };
}

function ggufHeader(name: string, shape: Shape, mix: Mix, tensors: readonly Tensor[]): Buffer {
  const entries = Object.entries(metadata(name, shape, mix));
  const parts = [Buffer.from("GGUF"), u32(3), u64(tensors.length), u64(entries.length)];
  for (const [key, [type, bytes]] of entries) parts.push(string(key), u32(type), bytes);
  let offset = 0;
  for (const tensor of tensors) {
    const dims = [...tensor.dims].reverse();
    parts.push(string(`${tensor.gguf}.weight`), u32(dims.length), ...dims.map(u64));
    parts.push(u32(formats[tensor.format].ggmlType), u64(offset));
    offset += bytesOf(tensor) + paddingTo(bytesOf(tensor), alignment);
  }
  const header = Buffer.concat(parts);
  return Buffer.concat([header, Buffer.alloc(paddingTo(header.length, alignment))]);
}

function safetensorsHeader(tensors: readonly Tensor[]): Buffer {
  const entries: Record<string, unknown> = {};
  let offset = 0;
  for (const tensor of tensors) {
    const end = offset + bytesOf(tensor);
    const dtype = tensor.format.toUpperCase();
    entries[`${tensor.hf}.weight`] = { dtype, shape: tensor.dims, data_offsets: [offset, end] };
    offset = end;
  }
  const json = JSON.stringify(entries);
  const padded = json + " ".repeat(paddingTo(json.length, 8));
  return Buffer.concat([u64(padded.length), Buffer.from(padded)]);
}

/** config.json and the tokenizer's files, as Hugging Face's converter writes them for a SentencePiece model. */
function sideFiles(shape: Shape, mix: Mix): Record<string, unknown> {
  const tokens = vocabulary(shape.vocab);
  const special = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  return {
    "config.json": {
      architectures: ["MistralForCausalLM"],
      model_type: "mistral",
      bos_token_id: 1,
      eos_token_id: 2,
      hidden_act: "silu",
      hidden_size: shape.hidden,
      intermediate_size: shape.intermediate,
      max_position_embeddings: context,
      num_attention_heads: shape.heads,
      num_hidden_layers: shape.layers,
      num_key_value_heads: shape.kvHeads,
      rms_norm_eps: 1e-5,
      rope_theta: 10000,
      sliding_window: null,
      tie_word_embeddings: shape.tied ?? false,
      torch_dtype: { f32: "float32", f16: "float16", bf16: "bfloat16" }[mix as string],
      vocab_size: shape.vocab,
    },
    "tokenizer_config.json": { add_bos_token: true, bos_token: "<s>", eos_token: "</s>" },
    "tokenizer.json": {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: tokens
        .slice(0, 3)
        .map(({ piece }, id) => ({ id, content: piece, ...special, special: true })),
      normalizer: {
        type: "Sequence",
        normalizers: [
          { type: "Prepend", prepend: "\u2581" },
          { type: "Replace", pattern: { String: " " }, content: "\u2581" },
        ],
      },
      pre_tokenizer: null,
      post_processor: null,
      decoder: {
        type: "Sequence",
        decoders: [
          { type: "Replace", pattern: { String: "\u2581" }, content: " " },
          { type: "ByteFallback" },
          { type: "Fuse" },
          { type: "Strip", content: " ", start: 1, stop: 0 },
        ],
      },
      model: {
        type: "BPE",
        dropout: null,
        unk_token: "<unk>",
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: true,
        byte_fallback: true,
        vocab: Object.fromEntries(tokens.map(({ piece }, id) => [piece, id])),
        merges: [],
      },
    },
  };
}

/** Norms are around 1; other weights keep the size of what they multiply. */
function writeWeights(file: number, tensor: Tensor, buffer: Uint8Array): void {
  const isNorm = tensor.dims.length === 1;
  const columns = tensor.dims.at(-1) ?? 1;
  const random = new Random(tensor.gguf);
  const [mean, deviation] = isNorm ? [1, 0.1] : [0, 1 / Math.sqrt(columns)];
  const fill = weightFiller(tensor.format, mean, deviation, random);
  const unit = formats[tensor.format].bytes;
  const most = Math.floor(buffer.length / unit) * unit;
  for (let left = bytesOf(tensor); left > 0; left -= most) {
    const piece = buffer.subarray(0, Math.min(left, most));
    fill(piece);
    writeSync(file, piece);
  }
}

/** Writes a model to `out`: a GGUF file if it is named so, else a folder of safetensors. The file appears when it is whole. */
export function makeModel(shapeName: ShapeName, mix: Mix, out: string): void {
  const shape = shapes[shapeName];
  const isGguf = out.endsWith(".gguf");
  if (!isGguf && (mix === "q4_k_m" || !isFloat(mix)))
    throw new InputError("format", `safetensors hold f32, f16 or bf16, got ${mix}; name it .gguf`);
  const tensors = tensorsOf(shape, mix, isGguf || mix === "q4_k_m" ? "f32" : mix);
  const path = isGguf ? out : join(out, "model.safetensors");
  mkdirSync(dirname(path), { recursive: true });
  if (!isGguf)
    for (const [name, json] of Object.entries(sideFiles(shape, mix)))
      writeFileSync(join(out, name), JSON.stringify(json, undefined, 1));
  const file = openSync(`${path}.part`, "w");
  const name = `random ${shapeName} ${mix}`;
  writeSync(file, isGguf ? ggufHeader(name, shape, mix, tensors) : safetensorsHeader(tensors));
  const buffer = new Uint8Array(pieceBytes);
  for (const tensor of tensors) {
    writeWeights(file, tensor, buffer);
    if (isGguf) writeSync(file, Buffer.alloc(paddingTo(bytesOf(tensor), alignment)));
  }
  closeSync(file);
  renameSync(`${path}.part`, path);
}

if (import.meta.main) {
  const commandLine: CommandLine = new CommandLine(
    `npm run bench:model -- --shape ${Object.keys(shapes).join("|")} --format q4_0|q8_0|q4_k_m|f16|f32|… --out FILE.gguf|FOLDER`,
  );
  const text = { type: "string", default: "" } as const;
  const { shape, format, out } = commandLine.options({ shape: text, format: text, out: text });
  if (!Object.hasOwn(shapes, shape)) commandLine.fail(`--shape: got "${shape}"`);
  if (!isMix(format)) commandLine.fail(`--format: got "${format}"`);
  if (out === "") commandLine.fail("--out: expected a file or a folder");
  const start = performance.now();
  makeModel(shape as ShapeName, format, out);
  console.error(`${out} in ${((performance.now() - start) / 1000).toFixed(1)} s`);
}
