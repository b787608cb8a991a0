import type { Body, Local } from "./body.ts";
import { instruction, namespace } from "./expression.ts";
import type { Expr, ResultType, Statements } from "./expression.ts";

/** The global of every module that is 0, which no engine can know, as it is mutable. */
const zero = instruction("i32", "global.get", [0x23, 0], [], () => " $zero");
const { splat } = namespace("i32x4");
const { xor } = namespace("v128");

/**
 * The statements of a function with the vector literals of its loops in locals, which are set at the start. V8 makes a literal
 * anew at every use, in three instructions, and keeps none in a register; a value that it cannot foresee stays in one. So a
 * local is set to `literal xor zero`.
 */
export function holdLiterals(body: Body): Statements {
  const held = new Map<string, { readonly literal: Expr<"v128">; readonly local: Local<"v128"> }>();
  const hold = (literal: Expr<"v128">): Local<"v128"> => {
    const key = literal.bytes.join();
    const known = held.get(key) ?? { literal, local: body.local("v128") };
    held.set(key, known);
    return known.local;
  };
  const inside = <T extends ResultType>(expr: Expr<T>, looped: boolean): Expr<T> => {
    const { name, args, blocks } = expr;
    if (looped && isLiteral(expr)) return hold(expr) as Expr<ResultType> as Expr<T>;
    if (args.length === 0 && !blocks) return expr;
    const within = args.map((arg) => inside(arg, looped));
    if (!blocks) return { ...expr, args: within };
    const list = (block: Statements): Statements =>
      block.map((statement) => inside(statement, looped || name === "loop"));
    return { ...expr, args: within, blocks: blocks.map(list) };
  };
  const rest = body.statements.map((statement) => inside(statement, false));
  const unforeseen = splat(zero);
  const first = [...held.values()].map(({ literal, local }) =>
    local.assign(xor(literal, unforeseen)),
  );
  return [...first, ...rest];
}

/** All zeros take one instruction. */
const isLiteral = (expr: Expr<ResultType>): expr is Expr<"v128"> =>
  expr.name === "v128.const" && expr.bytes.slice(2).some((byte) => byte !== 0);
