/** Numbers, and names of symbolic sizes. */
type Sizes = readonly (number | string)[];
/** An argument of a method: a tensor, the paged KV cache, a plain number. */
export type ArgumentSpec =
  | { readonly kind: "tensor"; readonly shape: Sizes; readonly dtype: "f32" | "i32" }
  | { readonly kind: "cache" }
  /** For functions that run on the host. */
  | { readonly kind: "integer" };

export interface MethodSpec {
  readonly args: Readonly<Record<string, ArgumentSpec>>;
  /** Name of the result: functions that run one after the other share values by name. */
  readonly returns: string;
  /** `packed`: the weights are one argument of the compiled function; `none`: it uses no weights. */
  readonly param_mode: "packed" | "none";
  readonly effect_mode: "none";
}
export type ModuleSpec = Readonly<Record<string, MethodSpec>>;

export function tensorSpec(shape: Sizes, dtype: "f32" | "i32" = "f32"): ArgumentSpec {
  return { kind: "tensor", shape, dtype };
}
export const cacheSpec: ArgumentSpec = { kind: "cache" };
export const integerSpec: ArgumentSpec = { kind: "integer" };

/** Bounds of the symbolic sizes, by name. */
export type Bounds = Readonly<Record<string, { readonly min: number; readonly max: number }>>;
