import type { Expr, ResultType, Statements } from "./expression.ts";

/** Appends the bytes of statements. Between two blocks stands `else` (0x05), behind the last `end` (0x0b). */
export function encode(out: number[], statements: readonly Expr<ResultType>[]): void {
  for (const { args, bytes, blocks } of statements) {
    if (args.length > 0) encode(out, args);
    out.push(...bytes);
    if (!blocks) continue;
    for (const [at, block] of blocks.entries()) {
      if (at > 0) out.push(0x05);
      encode(out, block);
    }
    out.push(0x0b);
  }
}

/** Statements as WebAssembly text, folded form, two spaces an indent. */
export const print = (statements: Statements, indent: string): string =>
  statements.map((statement) => printStatement(statement, indent)).join("");

function printStatement(statement: Expr<"void">, indent: string): string {
  const start = `${indent}(${show(statement)}`;
  const blocks = statement.blocks?.map((block) => print(block, `${indent}  `));
  if (!blocks) return `${start})\n`;
  if (statement.name === "loop") return `${start}\n${blocks.join("")}${indent})\n`;
  const [then, otherwise] = blocks.map((block) => `\n${block}${indent} )\n`);
  const rest = otherwise ? `${indent} (else${otherwise}` : "";
  return `${start} (then${then}${rest}${indent})\n`;
}

const show = ({ name, show: immediates, args }: Expr<ResultType>): string =>
  `${name}${immediates()}${args.map((arg) => ` (${show(arg)})`).join("")}`;
