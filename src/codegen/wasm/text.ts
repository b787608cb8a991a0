import type { Statement } from "./body.ts";
import type { Expr, ResultType } from "./expression.ts";
import { hasLane, opcodes } from "./opcodes.ts";

/** WebAssembly text of expressions and statements, folded form, two spaces an indent. */
export function printStatements(statements: readonly Statement[], indent: string): string {
  return statements.map((statement) => printStatement(statement, indent)).join("");
}

function printStatement(statement: Statement, indent: string): string {
  const inside = (list: readonly Statement[]): string => printStatements(list, `${indent}  `);
  switch (statement.kind) {
    case "do":
      return `${indent}${printExpr(statement.value)}\n`;
    case "drop":
      return `${indent}(drop ${printExpr(statement.value)})\n`;
    case "set":
      return `${indent}(local.set ${statement.local} ${printExpr(statement.value)})\n`;
    case "block":
    case "loop":
      return `${indent}(${statement.kind} $${statement.label.name}\n${inside(statement.inside)}${indent})\n`;
    case "if": {
      const otherwise = statement.otherwise.length
        ? `${indent} (else\n${inside(statement.otherwise)}${indent} )\n`
        : "";
      return `${indent}(if ${printExpr(statement.condition)} (then\n${inside(statement.inside)}${indent} )\n${otherwise}${indent})\n`;
    }
    case "branch":
      return statement.condition
        ? `${indent}(br_if $${statement.to.name} ${printExpr(statement.condition)})\n`
        : `${indent}(br $${statement.to.name})\n`;
    case "return":
      return `${indent}(return${statement.value ? ` ${printExpr(statement.value)}` : ""})\n`;
    default:
      return statement satisfies never;
  }
}

function printExpr({ type, term, args }: Expr<ResultType>): string {
  const inner = args.map((arg) => ` ${printExpr(arg)}`).join("");
  switch (term.kind) {
    case "instruction": {
      const memory =
        opcodes[term.name].length === 3 && term.offset > 0 ? ` offset=${term.offset}` : "";
      const lane = hasLane(term.name) ? ` ${term.lane}` : "";
      return `(${term.name}${memory}${lane}${inner})`;
    }
    case "const":
      return `(${type}.const ${printConst(term.value)})`;
    case "shuffle":
      return `(i8x16.shuffle ${term.lanes.join(" ")}${inner})`;
    case "select":
      return `(select${type === "v128" ? " (result v128)" : ""}${inner})`;
    case "get":
      return `(local.get ${term.local})`;
    case "tee":
      return `(local.tee ${term.local}${inner})`;
    case "call":
      return `(call $${JSON.stringify(term.name)}${inner})`;
    default:
      return term satisfies never;
  }
}

function printConst(value: number | bigint | Uint8Array): string {
  if (value instanceof Uint8Array) return `i8x16 ${[...value].join(" ")}`;
  return value === Infinity ? "inf" : value === -Infinity ? "-inf" : String(value);
}
