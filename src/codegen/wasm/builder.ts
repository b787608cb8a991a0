/** A typed builder of WebAssembly in which a generator looks like what it generates: `i32.add(x, i32.shl(i, 2))`. */
import { opcode } from "./bytes.ts";
import { constant, instruction, namespace, operand } from "./expression.ts";
import type { Expr, Namespace } from "./expression.ts";

export { Body, Local } from "./body.ts";
export { WasmModule, type FuncRef, type MemoryLimits } from "./module.ts";
export type { Expr } from "./expression.ts";

type V128 = Expr<"v128">;
interface Scalar<T extends "i32" | "f32"> {
  const(value: number): Expr<T>;
}
interface Vector {
  /** One number a lane. */
  const(lanes: readonly number[]): V128;
}
const lanes = (Lanes: new (values: readonly number[]) => ArrayBufferView): Vector => ({
  const(values) {
    const bytes = new Uint8Array(new Lanes(values).buffer);
    const code = [...opcode(0xfd000c), ...bytes];
    return instruction("v128", "v128.const", code, [], () => ` i8x16 ${bytes.join(" ")}`);
  },
});
function shuffle(a: V128, b: V128, order: readonly number[]): V128 {
  const args = [a, b].map((value) => operand(value, "v128", "shuffle"));
  const code = [...opcode(0xfd000d), ...order];
  return instruction("v128", "i8x16.shuffle", code, args, () => ` ${order.join(" ")}`);
}

export const i32: Namespace<"i32"> & Scalar<"i32"> = {
  ...namespace("i32"),
  const: (value) => constant("i32", value),
};
export const f32: Namespace<"f32"> & Scalar<"f32"> = {
  ...namespace("f32"),
  const: (value) => constant("f32", value),
};
export const i64: { const(value: bigint): Expr<"i64"> } = {
  const: (value) => constant("i64", value),
};
export const v128: Namespace<"v128"> = namespace("v128");
export const memory: Namespace<"memory"> = namespace("memory");
export const i8x16: Namespace<"i8x16"> & Vector & { shuffle: typeof shuffle } = {
  ...namespace("i8x16"),
  ...lanes(Int8Array),
  shuffle,
};
export const i16x8: Namespace<"i16x8"> & Vector = { ...namespace("i16x8"), ...lanes(Int16Array) };
export const i32x4: Namespace<"i32x4"> & Vector = { ...namespace("i32x4"), ...lanes(Int32Array) };
export const f32x4: Namespace<"f32x4"> & Vector = { ...namespace("f32x4"), ...lanes(Float32Array) };
