import { InternalError } from "../../base/errors.ts";
import { opcode, signed, unsigned } from "./bytes.ts";
import { families, type Family } from "./opcodes.ts";

export type ValueType = "i32" | "i64" | "f32" | "v128";
export type ResultType = ValueType | "void";

/** An expression as a value: a tree, so that an expression used twice is computed twice (keep it in a local instead). */
export interface Expr<T extends ResultType> {
  readonly type: T;
  readonly name: string;
  /** Code and immediates. */
  readonly bytes: readonly number[];
  readonly args: readonly Expr<ResultType>[];
  /** The immediates as text. */
  readonly shown: readonly (string | number)[];
  /** Of `if` and `loop`: what is inside. */
  readonly blocks: readonly Statements[];
}
export type Statements = readonly Expr<"void">[];

export const instruction = <T extends ResultType>(
  type: T,
  name: string,
  bytes: readonly number[],
  args: readonly Expr<ResultType>[] = [],
  shown: readonly (string | number)[] = [],
  blocks: readonly Statements[] = [],
): Expr<T> => ({ type, name, bytes, args, shown, blocks });

/** An expression, or a number that becomes a constant. */
export type Operand<T extends ValueType> = Expr<T> | (T extends "v128" ? never : number);

/** Makes a constant of a number; checks the type of an expression. */
export function operand<T extends ValueType>(value: Operand<T>, type: T, where: string): Expr<T> {
  const got = typeof value === "object" ? value.type : type === "v128" ? typeof value : type;
  if (got !== type)
    throw new InternalError("wasm-operand", `${where}: expected ${type}, got ${got}`);
  return typeof value === "object" ? value : constant(type, value);
}

const constants: Readonly<Record<string, (value: number) => number[]>> = {
  i32: (value) => [0x41, ...signed(BigInt(value | 0))],
  i64: (value) => [0x42, ...signed(BigInt(value))],
  f32: (value) => [0x43, ...new Uint8Array(Float32Array.of(value).buffer)],
};

export function constant<T extends ValueType>(type: T, value: number): Expr<T> {
  const shown = type === "f32" ? showFloat(value) : value;
  return instruction(type, `${type}.const`, constants[type](value), [], [shown]);
}

function showFloat(value: number): string {
  const rounded = Math.fround(value);
  if (Object.is(rounded, -0)) return "-0";
  return String(rounded).replace("Infinity", "inf").toLowerCase();
}

/** What the words of a signature ask for. Behind operands: the number of a lane, or of each byte. */
type Words = { [T in ValueType]: Operand<T> } & { lane: number; order: readonly number[] };
type Operands<S> = S extends `${infer First extends keyof Words} ${infer Rest}`
  ? [Words[First], ...Operands<Rest>]
  : [Words[S & keyof Words]];
type Method<F extends Family> = F[1] extends `${infer In} -> ${infer Out extends ResultType}`
  ? (...args: [...Operands<In>, ...(F extends { 3: number } ? Place : [])]) => Expr<Out>
  : never;
type Place = [offset?: number, memory?: number];

/** The instructions of one namespace by their name after the dot: `i32.add(a, b)`, `v128.load(address, offset)`. */
export type Namespace<Prefix extends Family[0]> = {
  readonly [F in Extract<Family, { 0: Prefix }> as keyof F[2]]: Method<F>;
};

function method(name: string, code: number, [prefix, signature, , align]: Family) {
  const [operands, result] = signature.split(" -> ") as [string, ResultType];
  const all = operands.split(" ") as (keyof Words)[];
  const types = all.filter((type) => type !== "lane" && type !== "order");
  const hasLanes = types.length < all.length;
  const whole = `${prefix}.${name}`;
  const places = types.map((_, at) => `${whole}, operand ${at}`);
  const isVector = prefix === "v128" || prefix.includes("x");
  const plain = opcode(isVector ? 0xfd0000 + code : code);
  if (whole === "memory.copy") plain.push(0, 0); // from the only memory to the only memory
  if (whole === "memory.fill") plain.push(0);
  return (...args: (Expr<ValueType> | number)[]): Expr<ResultType> => {
    const terms = types.map((type, at) => operand<ValueType>(args[at], type, places[at]));
    if (align === undefined && !hasLanes) return instruction(result, whole, plain, terms);
    const lanes = hasLanes ? (args.slice(types.length, all.length) as number[]).flat() : [];
    const [offset = 0, memory = 0] = args.slice(all.length) as number[];
    const index = memory > 0 ? [memory] : [];
    const place = align === undefined ? [] : [align + (memory > 0 ? 64 : 0), ...index, offset];
    const bytes = [...plain, ...[...place, ...lanes].flatMap(unsigned)];
    const shown = [...index, ...(offset > 0 ? [`offset=${offset}`] : []), ...lanes];
    return instruction(result, whole, bytes, terms, shown);
  };
}

export function namespace<Prefix extends Family[0]>(prefix: Prefix): Namespace<Prefix> {
  const own = families.filter(([namespace]) => namespace === prefix);
  const methods = own.flatMap((family) =>
    Object.entries(family[2]).map(([name, code]) => [name, method(name, code, family)]),
  );
  return Object.fromEntries(methods) as Namespace<Prefix>;
}
