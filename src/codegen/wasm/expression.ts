import { InternalError } from "../../base/errors.ts";
import type { Bytes } from "./bytes.ts";
import { hasLane, opcodes, type Instruction } from "./opcodes.ts";

export type ValueType = "i32" | "i64" | "f32" | "v128";
export type ResultType = ValueType | "void";

/** What follows the code of an instruction, in bytes and in text. */
export interface Immediate {
  write(out: Bytes): void;
  show(): string;
}

/** An expression as a value: a tree, so that an expression used twice is computed twice (keep it in a local instead). */
export interface Expr<T extends ResultType> {
  readonly type: T;
  readonly name: string;
  readonly code: number;
  readonly immediates: readonly Immediate[];
  readonly args: readonly Expr<ResultType>[];
}

/** An expression, or a number that becomes a constant. */
export type Operand<T extends ValueType> =
  | Expr<T>
  | (T extends "v128" ? never : T extends "i64" ? number | bigint : number);

/** Makes a constant of a number; checks the type of an expression. */
export function operand<T extends ValueType>(
  value: Operand<T>,
  type: T,
  where: string,
  index: number | "" = "",
): Expr<T> {
  const got = typeof value === "object" ? value.type : type === "v128" ? typeof value : type;
  if (got !== type)
    throw new InternalError("wasm-operand", `${where}${index}: expected ${type}, got ${got}`);
  return typeof value === "object" ? value : constant(type, value);
}

/** The number of a local, function or lane. */
export const numbered = (value: number, text = ` ${value}`): Immediate => ({
  write: (out) => out.unsigned(value),
  show: () => text,
});
export const sixteen = (bytes: ArrayLike<number>, prefix = ""): Immediate => ({
  write: (out) => out.bytes(bytes),
  show: () => ` ${prefix}${Array.from(bytes).join(" ")}`,
});
const place = (align: number, offset: number): Immediate => ({
  write(out) {
    out.unsigned(align);
    out.unsigned(offset);
  },
  show: () => (offset > 0 ? ` offset=${offset}` : ""),
});
/** The only memory. */
const memory = numbered(0, "");

const constants: Readonly<Record<string, readonly [code: number, write: Write]>> = {
  i32: [0x41, (out, value) => out.signed(BigInt(Number(value) | 0))],
  i64: [0x42, (out, value) => out.signed(BigInt(value))],
  f32: [0x43, (out, value) => out.float(Number(value))],
};
type Write = (out: Bytes, value: number | bigint) => void;

export function constant<T extends ValueType>(type: T, value: number | bigint): Expr<T> {
  const [code, write] = constants[type];
  const immediate: Immediate = {
    write: (out) => write(out, value),
    show: () => ` ${type === "f32" ? showFloat(Number(value)) : value}`,
  };
  return instruction(type, `${type}.const`, code, [], [immediate]);
}

function showFloat(value: number): string {
  const float = Math.fround(value);
  if (Number.isNaN(float)) return "nan";
  if (!Number.isFinite(float)) return float > 0 ? "inf" : "-inf";
  return Object.is(float, -0) ? "-0" : String(float);
}

export const instruction = <T extends ResultType>(
  type: T,
  name: string,
  code: number,
  args: readonly Expr<ResultType>[],
  immediates: readonly Immediate[] = [],
): Expr<T> => ({ type, name, code, immediates, args });

type Split<S extends string> = S extends `${infer A extends ValueType} ${infer Rest}`
  ? [A, ...Split<Rest>]
  : S extends ValueType
    ? [S]
    : [];
type Operands<T extends readonly ValueType[]> = { [I in keyof T]: Operand<T[I]> };
type Extra<Name extends string, Entry> = Name extends `${string}_lane`
  ? Entry extends readonly [number, string, number]
    ? [offset: number, lane: number]
    : [lane: number]
  : Entry extends readonly [number, string, number]
    ? [offset?: number]
    : [];
type Method<Name extends Instruction> =
  (typeof opcodes)[Name][1] extends `${infer In} -> ${infer Out extends ResultType}`
    ? (...args: [...Operands<Split<In>>, ...Extra<Name, (typeof opcodes)[Name]>]) => Expr<Out>
    : never;

/** The instructions of one namespace by their name after the dot: `i32.add(a, b)`, `v128.load(address, offset)`. */
export type Namespace<Prefix extends string> = {
  readonly [
    Name in Instruction as Name extends `${Prefix}.${infer Rest}` ? Rest : never
  ]: Method<Name>;
};

function method(name: Instruction): (...args: (Operand<ValueType> | number)[]) => Expr<ResultType> {
  const [code, signature, align]: readonly [number, string, number?] = opcodes[name];
  const [operands, result] = signature.split(" -> ");
  const types = operands.split(" ") as ValueType[];
  const fixed = name === "memory.copy" ? [memory, memory] : name === "memory.fill" ? [memory] : [];
  const where = `${name}, operand `;
  return (...args) => {
    const terms = types.map((type, at) => operand(args[at] as Operand<ValueType>, type, where, at));
    const rest = args.slice(types.length) as number[];
    const immediates = align === undefined ? [...fixed] : [place(align, rest.shift() ?? 0)];
    if (hasLane(name)) immediates.push(numbered(rest[0]));
    return instruction(result as ResultType, name, code, terms, immediates);
  };
}

export function namespace<Prefix extends string>(prefix: Prefix): Namespace<Prefix> {
  const names = (Object.keys(opcodes) as Instruction[]).filter((name) =>
    name.startsWith(`${prefix}.`),
  );
  return Object.fromEntries(
    names.map((name) => [name.slice(prefix.length + 1), method(name)] as const),
  ) as object as Namespace<Prefix>;
}
