/** A typed builder of WebAssembly in which a generator looks like what it generates: `i32.add(x, i32.shl(i, 2))`. */
import { opcode } from "./bytes.ts";
import { constant, instruction, namespace } from "./expression.ts";
import type { Expr, Namespace } from "./expression.ts";
import type { Family } from "./opcodes.ts";

export type { Body, I32, Local } from "./body.ts";
export { WasmModule, type FuncRef, type Locals, type MemoryLimits } from "./module.ts";
export type { Expr } from "./expression.ts";

export type V128 = Expr<"v128">;
type Scalar<T extends "i32" | "f32"> = Namespace<T> & { const(value: number): Expr<T> };
/** Constants have a number for each lane, or one for all. */
type VectorConst = (lanes: number | readonly number[]) => V128;
type Vector<T extends Family[0]> = Namespace<T> & { const: VectorConst };
type Lanes = {
  new (lanes: number | readonly number[]): Int8Array | Int16Array | Int32Array | Float32Array;
  readonly BYTES_PER_ELEMENT: number;
};
const literal = opcode(0xfd000c);

const scalar = <T extends "i32" | "f32">(type: T): Scalar<T> => ({
  ...namespace(type),
  const: (value: number) => constant(type, value),
});
const vector = <T extends Family[0]>(prefix: T, Lanes: Lanes): Vector<T> => ({
  ...namespace(prefix),
  const(lanes: number | readonly number[]) {
    const all = 16 / Lanes.BYTES_PER_ELEMENT;
    const values = typeof lanes === "number" ? new Lanes(all).fill(lanes) : new Lanes(lanes);
    const bytes = new Uint8Array(values.buffer);
    return instruction("v128", "v128.const", [...literal, ...bytes], [], ["i8x16", ...bytes]);
  },
});

export const i32: Scalar<"i32"> = scalar("i32");
export const f32: Scalar<"f32"> = scalar("f32");
export const memory: Namespace<"memory"> = namespace("memory");
export const v128: Namespace<"v128"> = namespace("v128");
export const i8x16: Vector<"i8x16"> = vector("i8x16", Int8Array);
export const i16x8: Vector<"i16x8"> = vector("i16x8", Int16Array);
export const i32x4: Vector<"i32x4"> = vector("i32x4", Int32Array);
export const f32x4: Vector<"f32x4"> = vector("f32x4", Float32Array);

type Words<S extends string> = S extends `${infer First} ${infer Rest}` ? First | Words<Rest> : S;

/** Parameters that are all i32, by their names: `integers("x y rows")`. */
export const integers = <const S extends string>(names: S): Readonly<Record<Words<S>, "i32">> =>
  Object.fromEntries(names.split(" ").map((name) => [name, "i32"])) as Record<Words<S>, "i32">;
