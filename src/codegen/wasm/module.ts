import { InternalError } from "../../base/errors.ts";
import { Body, localOf, type Local } from "./body.ts";
import { join, list, sized, text, unsigned } from "./bytes.ts";
import { instruction, operand } from "./expression.ts";
import type { Expr, Operand, ResultType, Statements, ValueType } from "./expression.ts";
import { holdLiterals } from "./constants.ts";
import { encode, print } from "./statements.ts";

export type Params = Readonly<Record<string, ValueType>>;
export type Locals<P extends Params> = { readonly [Name in keyof P]: Local<P[Name]> };

interface Func {
  readonly name: string;
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
    options: { readonly export?: boolean } = {},
  ): FuncRef<R> {
    const types = Object.values(params);
    const body = new Body(types.length);
    const locals = Object.entries(params).map(
      ([key, type], index) => [key, localOf(body, type, index)] as const,
    );
    build(Object.fromEntries(locals) as Locals<P>, body);
    const index = this.#funcs.length;
    const exported = options.export ?? true;
    const statements = holdLiterals(body);
    this.#funcs.push({ name, params: types, result, exported, locals: body.locals, statements });
    const call: FuncRef<R>["call"] = (...args) => {
      if (args.length !== types.length)
        throw new InternalError(
          "wasm-call",
          `${name}: expected ${types.length} arguments, got ${args.length}`,
        );
      const where = `call of ${name}, argument `;
      const terms = types.map((type, at) =>
        operand(args[at] as Operand<ValueType>, type, where, at),
      );
      const bytes = [0x10, ...unsigned(index)];
      return instruction(result, "call", bytes, terms, () => ` ${idOf(name, index)}`);
    };
    return { call };
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

/** Functions are called by number and name; what an identifier cannot hold becomes `_`. */
const idOf = (name: string, index: number): string =>
  `$${index}.${name.replace(/[^\w.:/+×-]/g, "_").replaceAll("×", "x")}`;

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

function printFunc(
  { name, params, result, exported, locals, statements }: Func,
  index: number,
): string {
  const list = (keyword: string, types: readonly ResultType[]): string =>
    types.length > 0 ? ` (${keyword} ${types.join(" ")})` : "";
  const types = list("param", params) + list("result", result === "void" ? [] : [result]);
  const head = `${exported ? ` (export ${JSON.stringify(name)})` : ""}${types}`;
  const kept = locals.length > 0 ? `   ${list("local", locals)}\n` : "";
  return `  (func ${idOf(name, index)}${head}\n${kept}${print(statements, "    ")}  )\n`;
}
