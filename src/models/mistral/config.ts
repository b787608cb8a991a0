import { InputError } from "../../base/errors.ts";
import { presets, type PresetName } from "./presets.ts";

/**
 * The configuration of a Mistral-family model: fields of a Hugging Face `config.json` or of an `mlc-chat-config.json`'s
 * `model_config`, in their own names, with everything derived (DESIGN §2). −1 means unlimited or disabled, as in those files.
 */
export class MistralConfig {
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_attention_heads: number;
  readonly num_hidden_layers: number;
  readonly rms_norm_eps: number;
  readonly vocab_size: number;
  readonly position_embedding_base: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly sliding_window_size: number;
  readonly context_window_size: number;
  readonly prefill_chunk_size: number;
  readonly attention_sink_size: number;
  readonly tensor_parallel_shards: number;
  readonly max_batch_size: number;
  readonly tie_word_embeddings: boolean;

  private constructor(fields: MistralFields) {
    this.hidden_size = fields.hidden_size;
    this.intermediate_size = fields.intermediate_size;
    this.num_attention_heads = fields.num_attention_heads;
    this.num_hidden_layers = fields.num_hidden_layers;
    this.rms_norm_eps = fields.rms_norm_eps;
    this.vocab_size = fields.vocab_size;
    this.position_embedding_base = fields.position_embedding_base;
    this.num_key_value_heads = fields.num_key_value_heads;
    this.head_dim = fields.head_dim;
    this.sliding_window_size = fields.sliding_window_size;
    this.context_window_size = fields.context_window_size;
    this.prefill_chunk_size = fields.prefill_chunk_size;
    this.attention_sink_size = fields.attention_sink_size;
    this.tensor_parallel_shards = fields.tensor_parallel_shards;
    this.max_batch_size = fields.max_batch_size;
    this.tie_word_embeddings = fields.tie_word_embeddings;
  }

  /**
   * Checks and derives. `overrides` replace fields before anything is derived. `notice` receives each fallback that was taken
   * and, once, the keys that were not understood. Errors: InputError with the field, what was expected, what came.
   */
  static parse(json: unknown, options: ParseOptions = {}): MistralConfig {
    const where = options.where ?? "model config";
    if (typeof json !== "object" || json === null || Array.isArray(json))
      throw new InputError("config", `${where}: expected an object, got ${show(json)}`);
    const overrides = options.overrides ?? {};
    const door = new Door(mergeOverrides(json as Json, overrides), where, options.notice ?? (() => {}));
    return new MistralConfig(derive(door));
  }

  /** A published configuration by name, with overrides. */
  static preset(name: PresetName, options: ParseOptions = {}): MistralConfig {
    const json = Object.hasOwn(presets, name) ? presets[name] : undefined;
    if (json === undefined)
      throw new InputError("preset", `preset: expected ${Object.keys(presets).join(" or ")}, got ${show(name)}`);
    return MistralConfig.parse(json, { where: name, ...options });
  }
}

export interface ParseOptions {
  /** Name of the file, for messages. */
  readonly where?: string;
  readonly overrides?: Readonly<Record<string, unknown>>;
  readonly notice?: (text: string) => void;
}

type MistralFields = { readonly [Key in keyof MistralConfig]: MistralConfig[Key] };
type Json = Readonly<Record<string, unknown>>;

const show = (value: unknown): string => JSON.stringify(value) ?? String(value);

/** Fields that are computed from an overridden one; an override makes them be derived anew. */
const derivedFrom: Readonly<Record<string, readonly string[]>> = {
  sliding_window_size: ["context_window_size", "prefill_chunk_size", "sliding_window"],
  context_window_size: ["prefill_chunk_size"],
};

function mergeOverrides(json: Json, overrides: Json): Json {
  const merged: Record<string, unknown> = { ...json };
  for (const key of Object.keys(overrides))
    for (const derived of derivedFrom[key] ?? []) delete merged[derived];
  return { ...merged, ...overrides };
}

/** Keys of published configs that do not change what we compute. */
const ignored: ReadonlySet<string> = new Set([
  "_name_or_path", "architectures", "attention_dropout", "auto_map", "bos_token_id", "eos_token_id", "pad_token_id",
  "unk_token_id", "dtype", "torch_dtype", "initializer_range", "model_type", "pretraining_tp", "transformers_version",
  "use_cache", "is_llama_config", "rope_interleaved", "transformers.js_config", "vision_config", "hidden_dropout",
  "chunk_size_feed_forward", "return_dict", "output_attentions", "output_hidden_states",
]);
const known: ReadonlySet<string> = new Set([
  "hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "rms_norm_eps", "vocab_size",
  "position_embedding_base", "rope_theta", "rope_parameters", "num_key_value_heads", "head_dim", "sliding_window_size",
  "sliding_window", "context_window_size", "max_position_embeddings", "max_sequence_length", "prefill_chunk_size",
  "attention_sink_size", "tensor_parallel_shards", "max_batch_size", "tie_word_embeddings", "rope_scaling", "hidden_act",
  "attention_bias", "mlp_bias", "quantization_config", "num_local_experts", "num_experts_per_tok", "partial_rotary_factor",
  "final_logit_softcapping", "attn_logit_softcapping",
]);

/** Reads fields of a foreign object, with the field's name in every error. */
class Door {
  readonly #json: Json;
  readonly where: string;
  readonly notice: (text: string) => void;

  constructor(json: Json, where: string, notice: (text: string) => void) {
    this.#json = json;
    this.where = where;
    this.notice = notice;
    const unknown = Object.keys(json).filter((key) => !known.has(key) && !ignored.has(key));
    if (unknown.length > 0) notice(`${where}: ignored unknown keys ${unknown.join(", ")}`);
  }

  has(field: string): boolean {
    return this.#json[field] !== undefined && this.#json[field] !== null;
  }

  get(field: string): unknown {
    return this.#json[field];
  }

  error(field: string, problem: string, mentions: readonly string[] = []): InputError {
    const data = { field, value: this.#json[field], mentions };
    return new InputError("config-field", `${this.where}: ${field}: ${problem}`, data);
  }

  /** A whole number of at least `min`. */
  integer(field: string, min: number): number {
    const value = this.#json[field];
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < min)
      throw this.error(field, `expected a whole number of at least ${min}, got ${show(value)}`);
    return value;
  }

  positive(field: string): number {
    const value = this.#json[field];
    if (typeof value !== "number" || !Number.isFinite(value) || value <= 0)
      throw this.error(field, `expected a number above 0, got ${show(value)}`);
    return value;
  }

  /** The field where it is present and not 0, else undefined: 0 and absent are derived. */
  given(field: string, min: number): number | undefined {
    if (!this.has(field)) return undefined;
    return this.integer(field, Math.min(min, 0)) || undefined;
  }

  boolean(field: string): boolean {
    const value = this.#json[field] ?? false;
    if (typeof value !== "boolean") throw this.error(field, `expected true or false, got ${show(value)}`);
    return value;
  }
}

function derive(door: Door): MistralFields {
  refuseOtherMathematics(door);
  const heads = door.integer("num_attention_heads", 1);
  const hidden = door.integer("hidden_size", 1);
  const sliding_window_size = deriveWindow(door);
  const context_window_size = deriveContext(door, sliding_window_size);
  const fields: MistralFields = {
    hidden_size: hidden,
    intermediate_size: door.integer("intermediate_size", 1),
    num_attention_heads: heads,
    num_hidden_layers: door.integer("num_hidden_layers", 1),
    rms_norm_eps: door.positive("rms_norm_eps"),
    vocab_size: door.integer("vocab_size", 1),
    position_embedding_base: deriveRopeBase(door),
    num_key_value_heads: door.given("num_key_value_heads", 1) ?? heads,
    head_dim: deriveHeadDim(door, hidden, heads),
    sliding_window_size,
    context_window_size,
    prefill_chunk_size: deriveChunk(door, sliding_window_size, context_window_size),
    attention_sink_size: door.has("attention_sink_size") ? door.integer("attention_sink_size", 0) : 4,
    tensor_parallel_shards: door.given("tensor_parallel_shards", 1) ?? 1,
    max_batch_size: door.given("max_batch_size", 1) ?? 1,
    tie_word_embeddings: door.boolean("tie_word_embeddings"),
  };
  check(door, fields);
  return fields;
}

function deriveHeadDim(door: Door, hidden: number, heads: number): number {
  const given = door.given("head_dim", 1);
  if (given === undefined && hidden % heads !== 0)
    throw door.error("head_dim", `hidden_size ${hidden} is not divisible by num_attention_heads ${heads}; give head_dim`);
  const dim = given ?? hidden / heads;
  if (dim < 2 || dim % 2 !== 0)
    throw door.error("head_dim", `rotary positions turn pairs, so it must be even, got ${dim}`);
  return dim;
}

function deriveRopeBase(door: Door): number {
  if (door.has("position_embedding_base") && door.get("position_embedding_base") !== 0)
    return door.positive("position_embedding_base");
  if (door.has("rope_theta")) return door.positive("rope_theta");
  const parameters = door.get("rope_parameters") as Json | null | undefined;
  const theta = parameters?.rope_theta;
  if (theta === undefined || theta === null) return 10_000;
  if (typeof theta !== "number" || !(theta > 0))
    throw door.error("rope_parameters", `rope_theta: expected a number above 0, got ${show(theta)}`);
  return theta;
}

/** −1 where the model has no window. */
function deriveWindow(door: Door): number {
  const given = door.given("sliding_window_size", -1);
  if (given !== undefined) return checkLimit(door, "sliding_window_size", given);
  if (!door.has("sliding_window")) return -1;
  return checkLimit(door, "sliding_window", door.given("sliding_window", -1) ?? -1);
}

function checkLimit(door: Door, field: string, value: number): number {
  if (value === -1 || value > 0) return value;
  throw door.error(field, `expected −1 (disabled) or a size above 0, got ${value}`);
}

function deriveContext(door: Door, window: number): number {
  const given = door.has("context_window_size") ? door.integer("context_window_size", -1) : 0;
  if (given === -1 && window === -1)
    throw door.error(
      "context_window_size",
      "it and sliding_window_size are both disabled (−1), so memory would have no bound; set one of them",
      ["sliding_window_size"],
    );
  if (given !== 0) return given;
  if (window !== -1) return -1;
  for (const field of ["max_position_embeddings", "max_sequence_length"]) {
    const size = door.given(field, 1);
    if (size === undefined) continue;
    if (size < 1) throw door.error(field, `expected a size above 0, got ${size}`);
    door.notice(`${door.where}: context_window_size not found, falling back to ${field} (${size})`);
    return size;
  }
  throw door.error(
    "context_window_size",
    "not found, and neither are max_position_embeddings and max_sequence_length; give one of the three",
    ["max_position_embeddings", "max_sequence_length"],
  );
}

const mostChunk = 8192;

function deriveChunk(door: Door, window: number, context: number): number {
  const given = door.given("prefill_chunk_size", 1);
  if (given !== undefined) {
    if (given < 1) throw door.error("prefill_chunk_size", `expected a size above 0, got ${given}`);
    return given;
  }
  const limits = [window, context].filter((size) => size > 0);
  const chunk = Math.min(mostChunk, ...limits);
  door.notice(`${door.where}: prefill_chunk_size not found, using ${chunk}`);
  return chunk;
}

function check(door: Door, fields: MistralFields): void {
  const { num_attention_heads: heads, num_key_value_heads: kvHeads, tensor_parallel_shards: shards } = fields;
  if (kvHeads < 1 || heads % kvHeads !== 0)
    throw door.error("num_key_value_heads", `num_attention_heads ${heads} must be divisible by it, got ${kvHeads}`, [
      "num_attention_heads",
    ]);
  if (shards < 1 || kvHeads % shards !== 0)
    throw door.error("tensor_parallel_shards", `num_key_value_heads ${kvHeads} must be divisible by it, got ${shards}`, [
      "num_key_value_heads",
    ]);
  if (fields.intermediate_size % shards !== 0)
    throw door.error(
      "tensor_parallel_shards",
      `intermediate_size ${fields.intermediate_size} must be divisible by it, got ${shards}`,
      ["intermediate_size"],
    );
  const { attention_sink_size: sinks, sliding_window_size: window } = fields;
  if (window !== -1 && sinks >= window)
    throw door.error("attention_sink_size", `must be below sliding_window_size ${window}, got ${sinks}`, [
      "sliding_window_size",
    ]);
}

/** Keys that would change the mathematics: the value that changes nothing, and the reason. */
function refuseOtherMathematics(door: Door): void {
  const refuse = (field: string, plain: (value: unknown) => boolean, advice: string): void => {
    const value = door.get(field);
    if (value !== undefined && value !== null && !plain(value))
      throw door.error(field, `${show(value)} is not supported; ${advice}`);
  };
  const kind = (value: unknown): unknown => {
    const rope = value as Json;
    return rope.rope_type ?? rope.type ?? "default";
  };
  const isDefaultRope = (value: unknown): boolean => typeof value === "object" && kind(value) === "default";
  refuse("rope_scaling", isDefaultRope, "only unscaled rotary positions are computed");
  refuse("rope_parameters", isDefaultRope, "only rope_type default is computed");
  refuse("hidden_act", (value) => value === "silu", "only silu is computed");
  refuse("attention_bias", (value) => value === false, "projections have no bias");
  refuse("mlp_bias", (value) => value === false, "projections have no bias");
  refuse("quantization_config", () => false, "weights quantised by that tool cannot be read");
  refuse("num_local_experts", (value) => value === 0, "mixtures of experts are another architecture");
  refuse("partial_rotary_factor", (value) => value === 1, "all of a head is turned");
  refuse("final_logit_softcapping", () => false, "logits are not capped");
  refuse("attn_logit_softcapping", () => false, "scores are not capped");
}
