import { InternalError } from "../../base/errors.ts";
import { hasLane, opcodes, type Instruction } from "./opcodes.ts";

export type ValueType = "i32" | "i64" | "f32" | "v128";
export type ResultType = ValueType | "void";

/** What a term does besides the instructions of the table. */
export type TermKind =
  | {
      readonly kind: "instruction";
      readonly name: Instruction;
      readonly lane: number;
      readonly offset: number;
    }
  | { readonly kind: "const"; readonly value: number | bigint | Uint8Array }
  | { readonly kind: "shuffle"; readonly lanes: readonly number[] }
  | { readonly kind: "get"; readonly local: number }
  /** The global of every module that is 0, which no engine can know. */
  | { readonly kind: "zero" }
  | { readonly kind: "call"; readonly callee: number; readonly name: string };

/** An expression as a value: a tree, so that an expression used twice is computed twice (keep it in a local instead). */
export interface Expr<T extends ResultType> {
  readonly type: T;
  readonly term: TermKind;
  readonly args: readonly Expr<ResultType>[];
}

/** An expression, or a number that becomes a constant. */
export type Operand<T extends ValueType> =
  | Expr<T>
  | (T extends "v128" ? never : T extends "i64" ? number | bigint : number);

export function makeExpr<T extends ResultType>(
  type: T,
  term: TermKind,
  args: readonly Expr<ResultType>[] = [],
): Expr<T> {
  return { type, term, args };
}

/** Makes a constant of a number; checks the type of an expression. */
export function operand<T extends ValueType>(value: Operand<T>, type: T, where: string): Expr<T> {
  if (typeof value === "number" || typeof value === "bigint") return constant(type, value);
  if (value.type !== type)
    throw new InternalError("wasm-operand", `${where}: expected ${type}, got ${value.type}`);
  return value;
}

export const constant = <T extends ValueType>(
  type: T,
  value: number | bigint | Uint8Array,
): Expr<T> => makeExpr(type, { kind: "const", value });

type Split<S extends string> = S extends `${infer A extends ValueType} ${infer Rest}`
  ? [A, ...Split<Rest>]
  : S extends ValueType
    ? [S]
    : [];
type Operands<T extends readonly ValueType[]> = { [I in keyof T]: Operand<T[I]> };
type Signature<S extends string> = S extends `${infer In} -> ${infer Out extends ResultType}`
  ? { in: Split<In>; out: Out }
  : never;
type Extra<Name extends string, Entry> = Name extends `${string}_lane`
  ? Name extends `${string}load${string}` | `${string}store${string}`
    ? [offset: number, lane: number]
    : [lane: number]
  : Entry extends readonly [number, string, number]
    ? [offset?: number]
    : [];
type Method<Name extends Instruction> =
  Signature<(typeof opcodes)[Name][1]> extends {
    in: infer In extends ValueType[];
    out: infer Out extends ResultType;
  }
    ? (...args: [...Operands<In>, ...Extra<Name, (typeof opcodes)[Name]>]) => Expr<Out>
    : never;

/** The instructions of one namespace by their name after the dot: `i32.add(a, b)`, `v128.load(address, offset)`. */
export type Namespace<Prefix extends string> = {
  readonly [
    Name in Instruction as Name extends `${Prefix}.${infer Rest}` ? Rest : never
  ]: Method<Name>;
};

/** Operand and result types of an instruction. */
function signatureOf(name: Instruction): { operands: ValueType[]; result: ResultType } {
  const [operands, result] = opcodes[name][1].split(" -> ");
  return { operands: operands.split(" ") as ValueType[], result: result as ResultType };
}

function method(name: Instruction): (...args: (Operand<ValueType> | number)[]) => Expr<ResultType> {
  const { operands, result } = signatureOf(name);
  const lane = hasLane(name);
  const memory = opcodes[name].length === 3;
  return (...args) => {
    const terms = operands.map((type, at) =>
      operand(args[at] as Operand<ValueType>, type, `${name}, operand ${at}`),
    );
    const rest = args.slice(operands.length) as number[];
    const offset = memory ? (rest[0] ?? 0) : 0;
    const laneAt = lane ? (memory ? rest[1] : rest[0]) : 0;
    return makeExpr(result, { kind: "instruction", name, lane: laneAt, offset }, terms);
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
