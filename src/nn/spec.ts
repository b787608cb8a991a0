/** A tensor argument: sizes are numbers or names of symbolic sizes. */
export interface TensorSpec {
  readonly kind: "tensor";
  readonly shape: readonly (number | string)[];
  readonly dtype: "f32" | "i32";
}
/** The paged KV cache as an argument. */
export interface CacheSpec {
  readonly kind: "cache";
}
/** A plain number as an argument, for functions that run on the host. */
export interface IntegerSpec {
  readonly kind: "integer";
}
export type ArgumentSpec = TensorSpec | CacheSpec | IntegerSpec;

export interface MethodSpec {
  readonly args: Readonly<Record<string, ArgumentSpec>>;
  /** Name of the result: functions that run one after the other share values by name. */
  readonly returns: string;
  /** `packed`: the weights are one argument of the compiled function; `none`: it uses no weights. */
  readonly param_mode: "packed" | "none";
  readonly effect_mode: "none";
}
export type ModuleSpec = Readonly<Record<string, MethodSpec>>;

export const tensorSpec = (
  shape: readonly (number | string)[],
  dtype: "f32" | "i32" = "f32",
): TensorSpec => ({ kind: "tensor", shape, dtype });
export const cacheSpec: CacheSpec = { kind: "cache" };
export const integerSpec: IntegerSpec = { kind: "integer" };

/** Bounds of the symbolic sizes, by name. */
export type Bounds = Readonly<Record<string, { readonly min: number; readonly max: number }>>;
