/** A typed builder of WebAssembly in which a generator looks like what it generates: `i32.add(x, i32.shl(i, 2))`. */
import { constant, makeExpr, namespace, operand, type Expr, type Namespace } from "./expression.ts";

export { Body, Local } from "./body.ts";
export { WasmModule, type FuncRef, type Locals, type MemoryLimits } from "./module.ts";
export type { Expr } from "./expression.ts";

type V128 = Expr<"v128">;
interface Scalar<T extends "i32" | "f32"> {
  const(value: number): Expr<T>;
}
interface Vector {
  /** One number a lane. */
  const(lanes: readonly number[]): V128;
}

const scalar = <T extends "i32" | "f32">(type: T): Scalar<T> => ({
  const: (value) => constant(type, value),
});
const lanes = (make: (values: readonly number[]) => ArrayBufferView): Vector => ({
  const: (values) => {
    const { buffer } = make(values);
    return constant("v128", new Uint8Array(buffer).slice());
  },
});

export const i32: Namespace<"i32"> & Scalar<"i32"> = { ...namespace("i32"), ...scalar("i32") };
export const f32: Namespace<"f32"> & Scalar<"f32"> = { ...namespace("f32"), ...scalar("f32") };
export const i64: { const(value: bigint): Expr<"i64"> } = {
  const: (value) => constant("i64", value),
};
export const v128: Namespace<"v128"> = namespace("v128");
export const memory: Namespace<"memory"> = namespace("memory");
export const i8x16: Namespace<"i8x16"> &
  Vector & { shuffle(a: V128, b: V128, lanes: readonly number[]): V128 } = {
  ...namespace("i8x16"),
  ...lanes((values) => Int8Array.from(values)),
  shuffle: (a, b, order) =>
    makeExpr("v128", { kind: "shuffle", lanes: order }, [
      operand(a, "v128", "shuffle"),
      operand(b, "v128", "shuffle"),
    ]),
};
export const i16x8: Namespace<"i16x8"> & Vector = {
  ...namespace("i16x8"),
  ...lanes((values) => Int16Array.from(values)),
};
export const i32x4: Namespace<"i32x4"> & Vector = {
  ...namespace("i32x4"),
  ...lanes((values) => Int32Array.from(values)),
};
export const f32x4: Namespace<"f32x4"> & Vector = {
  ...namespace("f32x4"),
  ...lanes((values) => Float32Array.from(values)),
};

type Words<S extends string> = S extends `${infer First} ${infer Rest}` ? First | Words<Rest> : S;

/** Parameters that are all i32, by their names: `integers("x y rows")`. */
export const integers = <const S extends string>(names: S): Readonly<Record<Words<S>, "i32">> =>
  Object.fromEntries(names.split(" ").map((name) => [name, "i32"])) as Record<Words<S>, "i32">;
