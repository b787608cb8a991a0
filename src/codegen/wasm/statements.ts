import type { Statement } from "./body.ts";
import type { Expr, ResultType } from "./expression.ts";

/** Appends the statements of a function body. Blocks have no result (0x40) and end with 0x0b. */
export function encodeStatements(out: number[], statements: readonly Statement[]): void {
  for (const statement of statements)
    switch (statement.kind) {
      case "do":
        encodeExpr(out, statement.value);
        break;
      case "loop":
        out.push(0x03, 0x40);
        encodeStatements(out, statement.inside);
        encodeExpr(out, statement.again);
        out.push(0x0d, 0, 0x0b); // br_if to the loop itself
        break;
      case "if":
        encodeExpr(out, statement.condition);
        out.push(0x04, 0x40);
        encodeStatements(out, statement.inside);
        if (statement.otherwise.length > 0) out.push(0x05);
        encodeStatements(out, statement.otherwise);
        out.push(0x0b);
        break;
      default:
        statement satisfies never;
    }
}

function encodeExpr(out: number[], { bytes, args }: Expr<ResultType>): void {
  for (const arg of args) encodeExpr(out, arg);
  out.push(...bytes);
}

/** The statements as WebAssembly text, folded form, two spaces an indent. */
export function printStatements(statements: readonly Statement[], indent: string): string {
  return statements.map((statement) => printStatement(statement, indent)).join("");
}

function printStatement(statement: Statement, indent: string): string {
  const inside = (list: readonly Statement[]): string => printStatements(list, `${indent}  `);
  switch (statement.kind) {
    case "do":
      return `${indent}${printExpr(statement.value)}\n`;
    case "loop": {
      const { label, again } = statement;
      const branch = `${indent}  (br_if $${label} ${printExpr(again)})\n`;
      return `${indent}(loop $${label}\n${inside(statement.inside)}${branch}${indent})\n`;
    }
    case "if": {
      const { condition, otherwise } = statement;
      const rest = otherwise.length ? `${indent} (else\n${inside(otherwise)}${indent} )\n` : "";
      return `${indent}(if ${printExpr(condition)} (then\n${inside(statement.inside)}${indent} )\n${rest}${indent})\n`;
    }
    default:
      return statement satisfies never;
  }
}

const printExpr = ({ name, show, args }: Expr<ResultType>): string =>
  `(${name}${show()}${args.map((arg) => ` ${printExpr(arg)}`).join("")})`;
