import { InternalError } from "../../base/errors.ts";
import { Body, type Local } from "./body.ts";
import { join, list, sized, text, unsigned } from "./bytes.ts";
import { holdLiterals } from "./constants.ts";
import { instruction, operand } from "./expression.ts";
import type { Expr, ResultType, Statements, ValueType } from "./expression.ts";

export type Params = Readonly<Record<string, ValueType>>;
export type Locals<P extends Params> = { readonly [Name in keyof P]: Local<P[Name]> };

interface Func {
  readonly name: string;
  /** As text: number and name; what an identifier cannot hold becomes `_`. */
  readonly id: string;
  readonly params: readonly ValueType[];
  readonly result: ResultType;
  readonly exported: boolean;
  readonly locals: readonly ValueType[];
  readonly statements: Statements;
}

/** A function of the module, to be called from others. */
export interface FuncRef<R extends ResultType> {
  /** Arguments in the order of the parameters. */
  call(...args: readonly (Expr<ValueType> | number)[]): Expr<R>;
}

export interface MemoryLimits {
  /** In pages of 64 KiB. */
  readonly initial: number;
  readonly maximum: number;
  readonly shared: boolean;
}

const typeCodes = { i32: 0x7f, i64: 0x7e, f32: 0x7d, v128: 0x7b } as const;

/** The name under which a module imports its memory number `index`. */
export const memoryName = (index: number): string => (index === 0 ? "memory" : `memory${index}`);

/** A WebAssembly module under construction; its memories, all with the same limits, are imported as `env.memory`, `env.memory1`, … */
export class WasmModule {
  /** Loads and stores may name one of so many; may be raised until the module is written. */
  memories = 1;
  readonly #memory: MemoryLimits;
  readonly #funcs: Func[] = [];
  readonly #once = new Map<string, FuncRef<"void">>();

  constructor({ memory }: { memory: MemoryLimits }) {
    this.#memory = memory;
  }

  get #memoryNames(): string[] {
    return Array.from({ length: this.memories }, (_, index) => memoryName(index));
  }

  /** Adds a function and builds its body; it is exported under its name unless told otherwise. */
  func<const P extends Params, R extends ResultType>(
    name: string,
    params: P,
    result: R,
    build: (params: Locals<P>, body: Body) => void,
    { export: exported = true }: { readonly export?: boolean } = {},
  ): FuncRef<R> {
    const types = Object.values(params);
    const body = new Body();
    const given = Object.entries(params).map(([key, type]) => [key, body.local(type)] as const);
    build(Object.fromEntries(given) as Locals<P>, body);
    const statements = holdLiterals(body);
    const locals = body.locals.slice(types.length);
    const index = this.#funcs.length;
    const id = `$${index}.${name.replace(/[^\w.:/+×-]/g, "_").replaceAll("×", "x")}`;
    this.#funcs.push({ name, id, params: types, result, exported, locals, statements });
    const call: FuncRef<R>["call"] = (...args) => {
      const [expected, got] = [types.length, args.length];
      if (got !== expected)
        throw new InternalError("wasm-call", `${name}: expected ${expected} arguments, got ${got}`);
      const terms = types.map((type, at) =>
        operand<ValueType>(args[at], type, `call of ${name}, argument ${at}`),
      );
      return instruction(result, "call", [0x10, ...unsigned(index)], terms, [id]);
    };
    return { call };
  }

  /** The function that `make` adds when it is first asked for under this name. */
  once(name: string, make: () => FuncRef<"void">): FuncRef<"void"> {
    const made = this.#once.get(name) ?? make();
    this.#once.set(name, made);
    return made;
  }

  toBytes(): Uint8Array<ArrayBuffer> {
    const { initial, maximum, shared } = this.#memory;
    const limits = [shared ? 3 : 1, ...unsigned(initial), ...unsigned(maximum)];
    const signatures = this.#funcs.map((func) => signatureOf(func).join());
    const types = [...new Set(signatures)];
    const exports = this.#funcs.flatMap(({ name, exported }, index) =>
      exported ? [[...text(name), 0, ...unsigned(index)]] : [],
    );
    const sections: [id: number, things: readonly ArrayLike<number>[]][] = [
      [1, types.map((type) => type.split(",").map(Number))],
      [2, this.#memoryNames.map((name) => [...text("env"), ...text(name), 2, ...limits])],
      [3, signatures.map((signature) => unsigned(types.indexOf(signature)))],
      [6, [[typeCodes.i32, 1, 0x41, 0, 0x0b]]], // zero: mutable, i32.const 0
      [7, exports],
      [10, this.#funcs.map((func) => sized(encodeBody(func)))],
    ];
    const encoded = sections.flatMap(([id, things]) => [[id], sized(list(things))]);
    return join([[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0], ...encoded]);
  }

  /** The whole module as WebAssembly text, the same from run to run. */
  toText(): string {
    const { initial, maximum, shared } = this.#memory;
    const limits = `(memory ${initial} ${maximum}${shared ? " shared" : ""})`;
    const imports = this.#memoryNames.map((name) => `  (import "env" "${name}" ${limits})\n`);
    return `(module\n${imports.join("")}  (global $zero (mut i32) (i32.const 0))\n${this.#funcs.map(printFunc).join("")})\n`;
  }
}

function signatureOf({ params, result }: Func): number[] {
  const results = result === "void" ? [] : [result];
  const [from, to] = [params, results].map((types) => sized(types.map((type) => typeCodes[type])));
  return [0x60, ...from, ...to];
}

/** Locals in runs of one type: [i32, i32, v128] → 2 × i32, 1 × v128; then the statements. */
function encodeBody({ locals, statements }: Func): number[] {
  const starts = locals.flatMap((type, at) => (type === locals[at - 1] ? [] : [at]));
  const runs = starts.map((start, run) => {
    const past = starts[run + 1] ?? locals.length;
    return [...unsigned(past - start), typeCodes[locals[start]]];
  });
  const out = [...list(runs)];
  encode(out, statements);
  out.push(0x0b);
  return out;
}

/** Appends the bytes of statements. Between two blocks stands `else` (0x05), behind the last `end` (0x0b). */
function encode(out: number[], statements: readonly Expr<ResultType>[]): void {
  for (const { args, bytes, blocks } of statements) {
    if (args.length > 0) encode(out, args);
    out.push(...bytes);
    if (blocks.length === 0) continue; // nearly always
    for (const [at, block] of blocks.entries()) {
      encode(out, block);
      out.push(at < blocks.length - 1 ? 0x05 : 0x0b);
    }
  }
}

function printFunc({ name, id, params, result, exported, locals, statements }: Func): string {
  const list = (keyword: string, types: readonly ResultType[]): string =>
    types.length > 0 ? ` (${keyword} ${types.join(" ")})` : "";
  const types = list("param", params) + list("result", result === "void" ? [] : [result]);
  const head = `${exported ? ` (export ${JSON.stringify(name)})` : ""}${types}`;
  const kept = locals.length > 0 ? `   ${list("local", locals)}\n` : "";
  return `  (func ${id}${head}\n${kept}${print(statements, "    ")}  )\n`;
}

/** Statements as WebAssembly text, folded form, two spaces an indent. */
const print = (statements: Statements, indent: string): string =>
  statements.map((statement) => printStatement(statement, indent)).join("");

function printStatement(statement: Expr<"void">, indent: string): string {
  const start = `${indent}(${show(statement)}`;
  const blocks = statement.blocks.map((block) => print(block, `${indent}  `));
  if (blocks.length === 0) return `${start})\n`;
  if (statement.name === "loop") return `${start}\n${blocks.join("")}${indent})\n`;
  const [then, otherwise] = blocks.map((block) => `\n${block}${indent} )\n`);
  const rest = otherwise ? `${indent} (else${otherwise}` : "";
  return `${start} (then${then}${rest}${indent})\n`;
}

const show = ({ name, shown, args }: Expr<ResultType>): string =>
  [name, ...shown, ...args.map((arg) => `(${show(arg)})`)].join(" ");
