import { InternalError } from "../../base/errors.ts";
import { Body, Local, type Statement } from "./body.ts";
import { holdLiterals } from "./constants.ts";
import { Bytes, encodeStatements, typeCodes } from "./encode.ts";
import {
  makeExpr,
  operand,
  type Expr,
  type Operand,
  type ResultType,
  type ValueType,
} from "./expression.ts";
import { functionId, printStatements } from "./text.ts";

export type Params = Readonly<Record<string, ValueType>>;
export type Locals<P extends Params> = { readonly [Name in keyof P]: Local<P[Name]> };
type CallArguments = readonly (Expr<ValueType> | number)[];

interface Signature {
  readonly params: readonly ValueType[];
  readonly result: ResultType;
}
interface Func extends Signature {
  readonly name: string;
  readonly exported: boolean;
  readonly body: {
    readonly statements: readonly Statement[];
    readonly locals: readonly ValueType[];
  };
}

/** A function of the module, to be called from others. */
export interface FuncRef<R extends ResultType> {
  /** Arguments in the order of the parameters. */
  call(...args: CallArguments): Expr<R>;
}

export interface MemoryLimits {
  /** In pages of 64 KiB. */
  readonly initial: number;
  readonly maximum: number;
  readonly shared: boolean;
}

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
  ): FuncRef<R> {
    const types = Object.values(params);
    const body = new Body(types.length);
    const locals = Object.fromEntries(
      Object.entries(params).map(
        ([key, type], index) => [key, new Local(body, type, index)] as const,
      ),
    ) as Locals<P>;
    build(locals, body);
    const statements = holdLiterals(body.statements, () => body.addLocal("v128"));
    const callee = this.#funcs.length;
    this.#funcs.push({
      name,
      params: types,
      result,
      exported: options.export ?? true,
      body: { statements, locals: body.locals },
    });
    return {
      call: (...args) => callOf({ name, params: types, result, callee }, args) as Expr<R>,
    };
  }

  toBytes(): Uint8Array<ArrayBuffer> {
    const out = new Bytes();
    out.bytes(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0));
    const signatures = new Map<string, number>();
    const typeOf = this.#funcs.map((func) => {
      const key = `${func.params.join()}:${func.result}`;
      const index = signatures.get(key) ?? signatures.size;
      signatures.set(key, index);
      return index;
    });
    section(out, 1, (types) => {
      types.unsigned(signatures.size);
      for (const key of signatures.keys()) encodeSignature(types, key);
    });
    section(out, 2, (imports) => this.#encodeMemory(imports));
    section(out, 3, (funcs) => {
      funcs.unsigned(typeOf.length);
      for (const index of typeOf) funcs.unsigned(index);
    });
    section(out, 6, (globals) => {
      globals.bytes(Uint8Array.of(1, typeCodes.i32, 1, 0x41, 0, 0x0b)); // zero: mutable, i32.const 0
    });
    section(out, 7, (exports) => this.#encodeExports(exports));
    section(out, 10, (code) => {
      code.unsigned(this.#funcs.length);
      for (const { body } of this.#funcs) code.sized(encodeBody(body));
    });
    return out.view().slice();
  }

  #encodeMemory(imports: Bytes): void {
    imports.unsigned(1);
    imports.text("env");
    imports.text("memory");
    imports.byte(2);
    imports.byte(this.#memory.shared ? 3 : 1);
    imports.unsigned(this.#memory.initial);
    imports.unsigned(this.#memory.maximum);
  }

  #encodeExports(exports: Bytes): void {
    const exported = this.#funcs.flatMap((func, index) => (func.exported ? [{ func, index }] : []));
    exports.unsigned(exported.length);
    for (const { func, index } of exported) {
      exports.text(func.name);
      exports.byte(0);
      exports.unsigned(index);
    }
  }

  /** The whole module as WebAssembly text, the same from run to run. */
  toText(): string {
    const { initial, maximum, shared } = this.#memory;
    const memory = `  (import "env" "memory" (memory ${initial} ${maximum}${shared ? " shared" : ""}))\n`;
    return `(module\n${memory}  (global $zero (mut i32) (i32.const 0))\n${this.#funcs.map(printFunc).join("")})\n`;
  }
}

function callOf(
  target: Signature & { name: string; callee: number },
  args: CallArguments,
): Expr<ResultType> {
  const { name, params, result, callee } = target;
  if (args.length !== params.length)
    throw new InternalError(
      "wasm-call",
      `${name}: expected ${params.length} arguments, got ${args.length}`,
    );
  const terms = params.map((type, at) =>
    operand(args[at] as Operand<ValueType>, type, `call of ${name}, argument ${at}`),
  );
  return makeExpr(result, { kind: "call", callee, name }, terms);
}

function section(out: Bytes, id: number, build: (content: Bytes) => void): void {
  const content = new Bytes();
  build(content);
  out.byte(id);
  out.sized(content);
}

function encodeSignature(out: Bytes, key: string): void {
  const [params, result] = key.split(":");
  const types = params === "" ? [] : (params.split(",") as ValueType[]);
  out.byte(0x60);
  out.unsigned(types.length);
  for (const type of types) out.byte(typeCodes[type]);
  if (result === "void") return out.byte(0);
  out.byte(1);
  out.byte(typeCodes[result as ValueType]);
}

/** Runs of locals of one type: [i32, i32, v128] → 2 × i32, 1 × v128. */
function localRuns(locals: readonly ValueType[]): { type: ValueType; count: number }[] {
  const runs: { type: ValueType; count: number }[] = [];
  for (const type of locals) {
    const last = runs.at(-1);
    if (last?.type === type) last.count++;
    else runs.push({ type, count: 1 });
  }
  return runs;
}

function encodeBody(body: Func["body"]): Bytes {
  const out = new Bytes();
  const runs = localRuns(body.locals);
  out.unsigned(runs.length);
  for (const { type, count } of runs) {
    out.unsigned(count);
    out.byte(typeCodes[type]);
  }
  encodeStatements(out, body.statements);
  out.byte(0x0b);
  return out;
}

function printFunc({ name, params, result, exported, body }: Func, index: number): string {
  const list = (keyword: string, types: readonly ValueType[]): string =>
    types.length > 0 ? ` (${keyword} ${types.join(" ")})` : "";
  const head = `${exported ? ` (export ${JSON.stringify(name)})` : ""}${list("param", params)}${result === "void" ? "" : ` (result ${result})`}`;
  const locals = body.locals.length > 0 ? `   ${list("local", body.locals)}\n` : "";
  return `  (func ${functionId(index, name)}${head}\n${locals}${printStatements(body.statements, "    ")}  )\n`;
}
