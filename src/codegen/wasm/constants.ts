import type { Statement } from "./body.ts";
import { makeExpr, type Expr, type ResultType } from "./expression.ts";

/**
 * Moves the vector literals of loops into locals, which are set when the function starts. V8 makes a literal anew at every use,
 * in three instructions, and keeps none in a register; a value that it cannot foresee stays in one. So a local is set to
 * `literal xor splat(zero)`, where `zero` is a mutable global that nobody writes. `newLocal` adds a v128 local and returns its
 * number.
 */
export function holdLiterals(
  statements: readonly Statement[],
  newLocal: () => number,
): readonly Statement[] {
  const held = new Map<string, { readonly literal: Expr<"v128">; readonly local: number }>();
  const hold = (literal: Expr<"v128">, bytes: Uint8Array): Expr<"v128"> => {
    const key = bytes.join();
    const known = held.get(key) ?? { literal, local: newLocal() };
    held.set(key, known);
    return makeExpr("v128", { kind: "get", local: known.local });
  };
  const rest = inList(statements, hold, false);
  const unforeseen = instruction("i32x4.splat", [makeExpr("i32", { kind: "zero" })]);
  const first = [...held.values()].map(({ literal, local }): Statement => ({
    kind: "set",
    local,
    value: instruction("v128.xor", [literal, unforeseen]),
  }));
  return [...first, ...rest];
}

const instruction = (
  name: "i32x4.splat" | "v128.xor",
  args: readonly Expr<ResultType>[],
): Expr<"v128"> => makeExpr("v128", { kind: "instruction", name, lane: 0, offset: 0 }, args);

type Hold = (literal: Expr<"v128">, bytes: Uint8Array) => Expr<"v128">;

const inList = (list: readonly Statement[], hold: Hold, looped: boolean): readonly Statement[] =>
  list.map((statement) => inStatement(statement, hold, looped));

function inStatement(statement: Statement, hold: Hold, looped: boolean): Statement {
  const within = <T extends ResultType>(expr: Expr<T>): Expr<T> =>
    looped ? inExpr(expr, hold) : expr;
  switch (statement.kind) {
    case "do":
      return { ...statement, value: within(statement.value) };
    case "drop":
    case "set":
      return { ...statement, value: within(statement.value) };
    case "loop":
      return { ...statement, inside: inList(statement.inside, hold, true) };
    case "if":
      return {
        ...statement,
        condition: within(statement.condition),
        inside: inList(statement.inside, hold, looped),
        otherwise: inList(statement.otherwise, hold, looped),
      };
    case "branch":
      return { ...statement, condition: within(statement.condition) };
    case "return":
      return { ...statement, value: statement.value && within(statement.value) };
    default:
      return statement satisfies never;
  }
}

function inExpr<T extends ResultType>(expr: Expr<T>, hold: Hold): Expr<T> {
  const { type, term, args } = expr;
  if (term.kind === "const" && term.value instanceof Uint8Array)
    return isMadeAtOnce(term.value) ? expr : (hold(expr as Expr<"v128">, term.value) as Expr<T>);
  if (args.length === 0) return expr;
  return { type, term, args: args.map((arg) => inExpr(arg, hold)) };
}

/** All zeros and all ones take one instruction. */
const isMadeAtOnce = (bytes: Uint8Array): boolean =>
  bytes.every((byte) => byte === 0) || bytes.every((byte) => byte === 255);
