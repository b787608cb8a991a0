import { InternalError } from "../../base/errors.ts";
import { Body, Local } from "./body.ts";
import { Bytes } from "./bytes.ts";
import { instruction, numbered, operand } from "./expression.ts";
import type { Expr, Operand, ResultType, ValueType } from "./expression.ts";
import { encodeStatements, printStatements } from "./statements.ts";

export type Params = Readonly<Record<string, ValueType>>;
type Locals<P extends Params> = { readonly [Name in keyof P]: Local<P[Name]> };

interface Func {
  readonly name: string;
  readonly params: readonly ValueType[];
  readonly result: ResultType;
  readonly exported: boolean;
  readonly body: Body;
}

/** A function of the module, to be called from others. */
export interface FuncRef<P extends Params, R extends ResultType> {
  readonly name: string;
  readonly params: P;
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

/** A WebAssembly module under construction; its memory is imported as `env.memory`. */
export class WasmModule {
  readonly #memory: MemoryLimits;
  readonly #funcs: Func[] = [];

  constructor({ memory }: { memory: MemoryLimits }) {
    this.#memory = memory;
  }

  /** Adds a function and builds its body; it is exported under its name unless told otherwise. */
  func<const P extends Params, R extends ResultType>(
    name: string,
    params: P,
    result: R,
    build: (params: Locals<P>, body: Body) => void,
    options: { readonly export?: boolean } = {},
  ): FuncRef<P, R> {
    const types = Object.values(params);
    const body = new Body(types.length);
    const locals = Object.entries(params).map(
      ([key, type], index) => [key, new Local(body, type, index)] as const,
    );
    build(Object.fromEntries(locals) as Locals<P>, body);
    const index = this.#funcs.length;
    this.#funcs.push({ name, params: types, result, exported: options.export ?? true, body });
    const call: FuncRef<P, R>["call"] = (...args) => {
      if (args.length !== types.length)
        throw new InternalError(
          "wasm-call",
          `${name}: expected ${types.length} arguments, got ${args.length}`,
        );
      const where = `call of ${name}, argument `;
      const terms = types.map((type, at) =>
        operand(args[at] as Operand<ValueType>, type, where, at),
      );
      return instruction(result, "call", 0x10, terms, [numbered(index, ` ${idOf(name, index)}`)]);
    };
    return { name, params, call };
  }

  toBytes(): Uint8Array<ArrayBuffer> {
    const out = new Bytes();
    out.bytes([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    const signatures = new Map(this.#funcs.map((func) => [signatureOf(func), func] as const));
    const numbers = new Map([...signatures.keys()].map((key, index) => [key, index] as const));
    const exported = [...this.#funcs.entries()].filter(([, func]) => func.exported);
    section(out, 1, [...signatures.values()], encodeSignature);
    section(out, 2, [this.#memory], encodeMemory);
    section(out, 3, this.#funcs, (to, func) => to.unsigned(numbers.get(signatureOf(func)) ?? 0));
    section(out, 7, exported, (to, [index, { name }]) => {
      to.text(name);
      to.byte(0);
      to.unsigned(index);
    });
    section(out, 10, this.#funcs, (to, { body }) => to.sized(encodeBody(body)));
    return out.view().slice();
  }

  /** The whole module as WebAssembly text, the same from run to run. */
  toText(): string {
    const { initial, maximum, shared } = this.#memory;
    const memory = `  (import "env" "memory" (memory ${initial} ${maximum}${shared ? " shared" : ""}))\n`;
    return `(module\n${memory}${this.#funcs.map(printFunc).join("")})\n`;
  }
}

/** Functions are called by number and name; what an identifier cannot hold becomes `_`. */
const idOf = (name: string, index: number): string =>
  `$${index}.${name.replace(/[^\w.:/+×-]/g, "_").replaceAll("×", "x")}`;

const signatureOf = ({ params, result }: Func): string => `${params.join()}:${result}`;

/** A section of the module: how many things, then each. */
function section<T>(
  out: Bytes,
  id: number,
  things: readonly T[],
  encode: (to: Bytes, thing: T) => void,
): void {
  const content = new Bytes();
  content.unsigned(things.length);
  for (const thing of things) encode(content, thing);
  out.byte(id);
  out.sized(content.view());
}

function encodeMemory(to: Bytes, { initial, maximum, shared }: MemoryLimits): void {
  to.text("env");
  to.text("memory");
  to.byte(2);
  to.byte(shared ? 3 : 1);
  to.unsigned(initial);
  to.unsigned(maximum);
}

function encodeSignature(to: Bytes, { params, result }: Func): void {
  to.byte(0x60);
  for (const types of [params, result === "void" ? [] : [result]])
    to.sized(Uint8Array.from(types, (type) => typeCodes[type]));
}

/** Locals in runs of one type: [i32, i32, v128] → 2 × i32, 1 × v128; then the statements. */
function encodeBody({ locals, statements }: Body): Uint8Array {
  const runs: { readonly type: ValueType; count: number }[] = [];
  for (const type of locals) {
    const last = runs.at(-1);
    if (last?.type === type) last.count++;
    else runs.push({ type, count: 1 });
  }
  const out = new Bytes();
  out.unsigned(runs.length);
  for (const { type, count } of runs) {
    out.unsigned(count);
    out.byte(typeCodes[type]);
  }
  encodeStatements(out, statements);
  out.byte(0x0b);
  return out.view();
}

function printFunc({ name, params, result, exported, body }: Func, index: number): string {
  const list = (keyword: string, types: readonly ResultType[]): string =>
    types.length > 0 ? ` (${keyword} ${types.join(" ")})` : "";
  const types = list("param", params) + list("result", result === "void" ? [] : [result]);
  const head = `${exported ? ` (export ${JSON.stringify(name)})` : ""}${types}`;
  const locals = body.locals.length > 0 ? `   ${list("local", body.locals)}\n` : "";
  return `  (func ${idOf(name, index)}${head}\n${locals}${printStatements(body.statements, "    ")}  )\n`;
}
