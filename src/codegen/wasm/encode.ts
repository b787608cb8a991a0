import { InternalError } from "../../base/errors.ts";
import type { Label, Statement } from "./body.ts";
import type { Expr, ResultType, TermKind, ValueType } from "./expression.ts";
import { hasLane, opcodes } from "./opcodes.ts";

export const typeCodes: Readonly<Record<ValueType, number>> = {
  i32: 0x7f,
  i64: 0x7e,
  f32: 0x7d,
  v128: 0x7b,
};
const empty = 0x40;

/** A growing array of bytes with the number formats of WebAssembly. */
export class Bytes {
  #data = new Uint8Array(1024);
  #length = 0;
  readonly #scratch = new DataView(new ArrayBuffer(4));

  get length(): number {
    return this.#length;
  }

  byte(value: number): void {
    if (this.#length === this.#data.length) this.#grow(1);
    this.#data[this.#length++] = value;
  }

  bytes(values: Uint8Array): void {
    if (this.#length + values.length > this.#data.length) this.#grow(values.length);
    this.#data.set(values, this.#length);
    this.#length += values.length;
  }

  #grow(more: number): void {
    const larger = new Uint8Array(2 * this.#data.length + more);
    larger.set(this.#data);
    this.#data = larger;
  }

  /** Unsigned LEB128. */
  unsigned(value: number): void {
    let rest = value;
    while (rest > 127) {
      this.byte((rest % 128) + 128);
      rest = Math.floor(rest / 128);
    }
    this.byte(rest);
  }

  /** Signed LEB128. */
  signed(value: number | bigint): void {
    let rest = BigInt(value);
    for (;;) {
      const low = Number(rest & 127n);
      rest >>= 7n;
      const done = (rest === 0n && low < 64) || (rest === -1n && low >= 64);
      this.byte(done ? low : low + 128);
      if (done) return;
    }
  }

  float(value: number): void {
    this.#scratch.setFloat32(0, value, true);
    this.bytes(new Uint8Array(this.#scratch.buffer));
  }

  text(value: string): void {
    const encoded = new TextEncoder().encode(value);
    this.unsigned(encoded.length);
    this.bytes(encoded);
  }

  /** A section or body: its size, then its content. */
  sized(content: Bytes): void {
    this.unsigned(content.length);
    this.bytes(content.view());
  }

  opcode(code: number): void {
    if (code < 0x10000) return this.byte(code);
    this.byte(code >> 16);
    this.unsigned(code & 0xffff);
  }

  view(): Uint8Array<ArrayBuffer> {
    return this.#data.subarray(0, this.#length);
  }
}

/** Writes the statements of a function body. */
export function encodeStatements(
  out: Bytes,
  statements: readonly Statement[],
  labels: readonly (Label | undefined)[] = [],
): void {
  for (const statement of statements) encodeStatement(out, statement, labels);
}

function encodeStatement(
  out: Bytes,
  statement: Statement,
  labels: readonly (Label | undefined)[],
): void {
  switch (statement.kind) {
    case "do":
      return encodeExpr(out, statement.value);
    case "drop":
      encodeExpr(out, statement.value);
      return out.byte(0x1a);
    case "set":
      encodeExpr(out, statement.value);
      out.byte(0x21);
      return out.unsigned(statement.local);
    case "loop":
      out.byte(0x03);
      out.byte(empty);
      encodeStatements(out, statement.inside, [statement.label, ...labels]);
      return out.byte(0x0b);
    case "if":
      encodeExpr(out, statement.condition);
      out.byte(0x04);
      out.byte(empty);
      encodeStatements(out, statement.inside, [undefined, ...labels]);
      if (statement.otherwise.length > 0) {
        out.byte(0x05);
        encodeStatements(out, statement.otherwise, [undefined, ...labels]);
      }
      return out.byte(0x0b);
    case "branch": {
      const depth = labels.indexOf(statement.to);
      if (depth < 0)
        throw new InternalError("wasm-branch", `a branch to ${statement.to.name} from outside`);
      encodeExpr(out, statement.condition);
      out.byte(0x0d);
      return out.unsigned(depth);
    }
    case "return":
      if (statement.value) encodeExpr(out, statement.value);
      return out.byte(0x0f);
    default:
      return statement satisfies never;
  }
}

function encodeExpr(out: Bytes, { type, term, args }: Expr<ResultType>): void {
  for (const arg of args) encodeExpr(out, arg);
  switch (term.kind) {
    case "instruction":
      return encodeInstruction(out, term);
    case "const":
      return encodeConst(out, type as ValueType, term.value);
    case "shuffle":
      out.opcode(0xfd0000 | 13);
      return out.bytes(Uint8Array.from(term.lanes));
    case "get":
      out.byte(0x20);
      return out.unsigned(term.local);
    case "zero":
      out.byte(0x23);
      return out.byte(0);
    case "call":
      out.byte(0x10);
      return out.unsigned(term.callee);
    default:
      return term satisfies never;
  }
}

function encodeInstruction(out: Bytes, term: TermKind & { kind: "instruction" }): void {
  const entry = opcodes[term.name];
  out.opcode(entry[0]);
  if (entry.length === 3) {
    out.unsigned(entry[2]);
    out.unsigned(term.offset);
  } else if (term.name === "memory.copy") {
    out.byte(0);
    out.byte(0);
  } else if (term.name === "memory.fill") out.byte(0);
  if (hasLane(term.name)) out.byte(term.lane);
}

function encodeConst(out: Bytes, type: ValueType, value: number | bigint | Uint8Array): void {
  if (value instanceof Uint8Array) {
    out.opcode(0xfd0000 | 12);
    return out.bytes(value);
  }
  switch (type) {
    case "i32":
      out.byte(0x41);
      return out.signed(Number(value) | 0);
    case "i64":
      out.byte(0x42);
      return out.signed(value);
    case "f32":
      out.byte(0x43);
      return out.float(Number(value));
    case "v128":
      throw new InternalError("wasm-const", "a v128 constant is 16 bytes");
    default:
      return type satisfies never;
  }
}
