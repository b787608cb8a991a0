import { InputError } from "../../base/errors.ts";
import { isObject, type Json } from "../../base/json.ts";
import { presets, type PresetName } from "./presets.ts";

export interface ParseOptions {
  /** Name of the file, for messages. */
  readonly where?: string;
  /** Fields that are replaced before anything is derived. */
  readonly overrides?: Json;
  /** Told of each fallback that was taken and, once, of the keys that were not understood. */
  readonly notice?: (text: string) => void;
}

/**
 * The configuration of a Mistral-family model: fields of a Hugging Face `config.json` or of an `mlc-chat-config.json`'s
 * `model_config`, in their own names, with everything derived (DESIGN §2). −1 means unlimited or disabled, as in those files.
 */
export class MistralConfig {
  declare readonly hidden_size: number;
  declare readonly intermediate_size: number;
  declare readonly num_attention_heads: number;
  declare readonly num_hidden_layers: number;
  declare readonly rms_norm_eps: number;
  declare readonly vocab_size: number;
  declare readonly position_embedding_base: number;
  declare readonly num_key_value_heads: number;
  declare readonly head_dim: number;
  declare readonly sliding_window_size: number;
  declare readonly context_window_size: number;
  declare readonly prefill_chunk_size: number;
  declare readonly attention_sink_size: number;
  declare readonly tensor_parallel_shards: number;
  declare readonly max_batch_size: number;
  declare readonly tie_word_embeddings: boolean;

  private constructor(door: Door) {
    for (const [name, rule] of Object.entries(rules))
      Object.assign(this, { [name]: rule(door(name), this, door) });
  }

  /** Checks and derives. Errors: InputError with the field, what was expected, what came. */
  static parse(json: unknown, options: ParseOptions = {}): MistralConfig {
    const { where = "model config", overrides = {}, notice = () => {} } = options;
    if (!isObject(json))
      throw new InputError("config", `${where}: expected an object, got ${show(json)}`);
    const stale = Object.keys(overrides).flatMap((key) => derivedFrom[key] ?? []);
    const derived = Object.fromEntries(stale.map((key) => [key, undefined]));
    const fields = { ...json, ...derived, ...overrides };
    const unknown = Object.keys(fields).filter((key) => !understood.has(key));
    if (unknown.length > 0) notice(`${where}: ignored unknown keys ${unknown.join(", ")}`);
    const door = doorTo(fields, where, (text) => notice(`${where}: ${text}`));
    for (const [name, [isPlain, advice]] of Object.entries(mathematics)) {
      const { value, error } = door(name);
      if ((value ?? undefined) !== undefined && !isPlain(value))
        throw error(`${show(value)} is not supported; ${advice}`);
    }
    return new MistralConfig(door);
  }

  /** A published configuration by name, with overrides. */
  static preset(name: PresetName, options: ParseOptions = {}): MistralConfig {
    if (Object.hasOwn(presets, name))
      return MistralConfig.parse(presets[name], { where: name, ...options });
    const names = Object.keys(presets).join(" or ");
    throw new InputError("preset", `preset: expected ${names}, got ${show(name)}`);
  }
}

const show = (value: unknown): string => JSON.stringify(value) ?? String(value);

/** Fields that are computed from an overridden one; an override makes them be derived anew. */
const derivedFrom: Readonly<Record<string, readonly string[]>> = {
  sliding_window_size: ["context_window_size", "prefill_chunk_size", "sliding_window"],
  context_window_size: ["prefill_chunk_size"],
};

/** The fields of a foreign object, each with its name in every error. */
type Door = ReturnType<typeof doorTo>;
type Field = ReturnType<Door>;
const doorTo = (json: Json, where: string, notice: (text: string) => void) => (name: string) => {
  const value = json[name];
  const error = (problem: string): InputError =>
    new InputError("config-field", `${where}: ${name}: ${problem}`, { field: name, value });
  const expect = <T>(got: unknown, expected: string, holds: boolean): T => {
    if (!holds) throw error(`expected ${expected}, got ${show(got)}`);
    return got as T;
  };
  const whole = (least: number): number => {
    const holds = Number.isSafeInteger(value) && Number(value) >= least;
    return expect(value, `a whole number of at least ${least}`, holds);
  };
  /** A whole number, or undefined where it is absent or 0: then it is derived. */
  const given = (least = 1): number | undefined => ((value ?? 0) === 0 ? undefined : whole(least));
  const positive = (from: unknown = value): number =>
    expect(from, "a number above 0", Number.isFinite(from) && Number(from) > 0);
  const flag = (): boolean =>
    expect(value ?? false, "true or false", typeof (value ?? false) === "boolean");
  /** The field where it is given, else `derived`; it must divide each of `sizes`. */
  const divisor = (derived: number, sizes: Record<string, number>): number => {
    const parts = given() ?? derived;
    for (const [other, size] of Object.entries(sizes))
      if (size % parts !== 0) throw error(`${other} ${size} must be divisible by it, got ${parts}`);
    return parts;
  };
  return { value, error, whole, given, positive, flag, divisor, notice };
};

/** A field of the config from that of the file, or from those above it. */
type Rule<T> = (field: Field, above: MistralConfig, door: Door) => T;
const required = (field: Field): number => field.whole(1);
const mostChunk = 8192;

const rules: { readonly [Name in keyof MistralConfig]: Rule<MistralConfig[Name]> } = {
  hidden_size: required,
  intermediate_size: required,
  num_attention_heads: required,
  num_hidden_layers: required,
  rms_norm_eps: (field) => field.positive(),
  vocab_size: required,
  position_embedding_base: (field, _, door) => {
    if ((field.value ?? 0) !== 0) return field.positive();
    const theta = door("rope_theta");
    const parameters = door("rope_parameters").value as Json | null | undefined;
    return theta.positive(theta.value ?? parameters?.rope_theta ?? 10_000);
  },
  num_key_value_heads: (field, { num_attention_heads }) =>
    field.divisor(num_attention_heads, { num_attention_heads }),
  head_dim: (field, { hidden_size: hidden, num_attention_heads: heads }) => {
    const given = field.given();
    if (given === undefined && hidden % heads !== 0) {
      const sizes = `hidden_size ${hidden} is not divisible by num_attention_heads ${heads}`;
      throw field.error(`${sizes}; give head_dim`);
    }
    const dim = given ?? hidden / heads;
    if (dim % 2 === 0) return dim;
    throw field.error(`rotary positions turn pairs, so it must be even, got ${dim}`);
  },
  sliding_window_size: (field, _, door) =>
    field.given(-1) ?? door("sliding_window").given(-1) ?? -1,
  context_window_size: (field, { sliding_window_size: window }, door) => {
    const given = field.given(-1);
    const unbounded =
      "it and sliding_window_size are both disabled (−1), so memory would have no bound";
    if (given === -1 && window === -1) throw field.error(`${unbounded}; set one of them`);
    if (given !== undefined) return given;
    if (window !== -1) return -1;
    const others = ["max_position_embeddings", "max_sequence_length"];
    const other = others.find((name) => door(name).given() !== undefined);
    const missing = `not found, and neither are ${others.join(" and ")}; give one of the three`;
    if (other === undefined) throw field.error(missing);
    const size = door(other).whole(1);
    field.notice(`context_window_size not found, falling back to ${other} (${size})`);
    return size;
  },
  prefill_chunk_size: (field, { sliding_window_size, context_window_size }) => {
    const given = field.given();
    if (given !== undefined) return given;
    const limits = [sliding_window_size, context_window_size].filter((size) => size > 0);
    const chunk = Math.min(mostChunk, ...limits);
    field.notice(`prefill_chunk_size not found, using ${chunk}`);
    return chunk;
  },
  attention_sink_size: (field, { sliding_window_size: window }) => {
    const sinks = (field.value ?? undefined) === undefined ? 4 : field.whole(0);
    if (window === -1 || sinks < window) return sinks;
    throw field.error(`must be below sliding_window_size ${window}, got ${sinks}`);
  },
  tensor_parallel_shards: (field, { num_key_value_heads, intermediate_size }) =>
    field.divisor(1, { num_key_value_heads, intermediate_size }),
  max_batch_size: (field) => field.given() ?? 1,
  tie_word_embeddings: (field) => field.flag(),
};

type Plain = (value: unknown) => boolean;
const isDefaultRope: Plain = (value) => {
  const { rope_type, type } = Object(value) as Json;
  return typeof value === "object" && (rope_type ?? type ?? "default") === "default";
};
/** Keys that would change the mathematics: the values that change nothing, and the reason. */
const mathematics: Readonly<Record<string, readonly [isPlain: Plain, advice: string]>> = {
  rope_scaling: [isDefaultRope, "only unscaled rotary positions are computed"],
  rope_parameters: [isDefaultRope, "only rope_type default is computed"],
  hidden_act: [(value) => value === "silu", "only silu is computed"],
  attention_bias: [(value) => value === false, "projections have no bias"],
  mlp_bias: [(value) => value === false, "projections have no bias"],
  quantization_config: [() => false, "weights quantised by that tool cannot be read"],
  num_local_experts: [(value) => value === 0, "mixtures of experts are another architecture"],
  partial_rotary_factor: [(value) => value === 1, "all of a head is turned"],
  final_logit_softcapping: [() => false, "logits are not capped"],
  attn_logit_softcapping: [() => false, "scores are not capped"],
};

/** Keys that stand in for a field, and keys of published configs that do not change what we compute. */
const others = `
  rope_theta sliding_window max_position_embeddings max_sequence_length num_experts_per_tok
  _name_or_path architectures attention_dropout auto_map bos_token_id eos_token_id pad_token_id unk_token_id dtype
  torch_dtype initializer_range model_type pretraining_tp transformers_version use_cache is_llama_config rope_interleaved
  transformers.js_config vision_config hidden_dropout chunk_size_feed_forward return_dict output_attentions
  output_hidden_states`;
const understood: ReadonlySet<string> = new Set([
  ...Object.keys(rules),
  ...Object.keys(mathematics),
  ...others.trim().split(/\s+/),
]);
