import type { Body, Local } from "./body.ts";
import { instruction, namespace } from "./expression.ts";
import type { Expr, ResultType, Statements } from "./expression.ts";

/** In all lanes the global of every module that is 0, which no engine can know, as it is mutable. */
const zeros = namespace("i32x4").splat(instruction("i32", "global.get", [0x23, 0], [], ["$zero"]));
const { xor } = namespace("v128");

/**
 * The statements of a function with the vector literals of its loops in locals, which are set at the start. V8 makes a literal
 * anew at every use, in three instructions, and keeps none in a register; a value that it cannot foresee stays in one. So a
 * local is set to `literal xor zeros`.
 */
export function holdLiterals(body: Body): Statements {
  const statements = [...body.statements];
  const held = new Map<string, Local<"v128">>();
  const hold = (literal: Expr<"v128">): Local<"v128"> => {
    const key = literal.bytes.join();
    const local = held.get(key) ?? body.local(xor(literal, zeros));
    held.set(key, local);
    return local;
  };
  const inside = <T extends ResultType>(expr: Expr<T>, looped: boolean): Expr<T> => {
    if (looped && isLiteral(expr)) return hold(expr) as Expr<ResultType> as Expr<T>;
    if (expr.args.length + expr.blocks.length === 0) return expr;
    const isLooped = looped || expr.name === "loop";
    const args = expr.args.map((arg) => inside(arg, looped));
    const blocks = expr.blocks.map((block) => block.map((one) => inside(one, isLooped)));
    return { ...expr, args, blocks };
  };
  const rest = statements.map((statement) => inside(statement, false));
  return [...body.statements.slice(statements.length), ...rest];
}

/** All zeros take one instruction. */
const isLiteral = (expr: Expr<ResultType>): expr is Expr<"v128"> =>
  expr.name === "v128.const" && expr.bytes.slice(2).some((byte) => byte !== 0);
