import type { Statement } from "./body.ts";
import type { Expr, ResultType } from "./expression.ts";
import { hasLane, opcodes } from "./opcodes.ts";

/** Functions are called by number and name; what an identifier cannot hold becomes `_`. */
export const functionId = (index: number, name: string): string =>
  `$${index}.${name.replace(/[^\w.:/+×-]/g, "_").replaceAll("×", "x")}`;

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
    case "loop":
      return `${indent}(loop $${statement.label.name}\n${inside(statement.inside)}${indent})\n`;
    case "if": {
      const otherwise = statement.otherwise.length
        ? `${indent} (else\n${inside(statement.otherwise)}${indent} )\n`
        : "";
      return `${indent}(if ${printExpr(statement.condition)} (then\n${inside(statement.inside)}${indent} )\n${otherwise}${indent})\n`;
    }
    case "branch":
      return `${indent}(br_if $${statement.to.name} ${printExpr(statement.condition)})\n`;
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
      return `(${type}.const ${printConst(type, term.value)})`;
    case "shuffle":
      return `(i8x16.shuffle ${term.lanes.join(" ")}${inner})`;
    case "get":
      return `(local.get ${term.local})`;
    case "zero":
      return "(global.get $zero)";
    case "call":
      return `(call ${functionId(term.callee, term.name)}${inner})`;
    default:
      return term satisfies never;
  }
}

function printConst(type: ResultType, value: number | bigint | Uint8Array): string {
  if (value instanceof Uint8Array) return `i8x16 ${[...value].join(" ")}`;
  if (type !== "f32") return String(value);
  const float = Math.fround(Number(value));
  if (Number.isNaN(float)) return "nan";
  if (!Number.isFinite(float)) return float > 0 ? "inf" : "-inf";
  return Object.is(float, -0) ? "-0" : String(float);
}
