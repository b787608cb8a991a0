import { InternalError } from "../../base/errors.ts";
import { unsigned } from "./bytes.ts";
import { instruction, namespace, operand } from "./expression.ts";
import type { Expr, Operand, Statements, ValueType } from "./expression.ts";

/** A local variable: an expression that reads it; `set` appends an assignment to the block that is open in the function. */
export type Local<T extends ValueType> = Expr<T> & { set(value: Operand<T>): void };

/** An expression, or a number. */
export type I32 = Operand<"i32">;
const { add, lt_s: less, gt_s: more } = namespace("i32");

/** The statements of a function. Blocks are callbacks that keep using the same body. */
export class Body {
  readonly statements: Expr<"void">[] = [];
  /** Parameters come first. */
  readonly locals: ValueType[] = [];
  #open = this.statements;
  #loops = 0;

  /** A new local with a first value, or of a type (its value is then whatever it last was; zero at first). */
  local<T extends ValueType>(initial: Expr<T> | T): Local<T> {
    const type = typeof initial === "string" ? initial : initial.type;
    const index = this.locals.length;
    const code = unsigned(index);
    const set = (value: Operand<T>): void => {
      const args = [operand(value, type, "set")];
      this.emit(instruction("void", "local.set", [0x21, ...code], args, [index]));
    };
    this.locals.push(type);
    if (typeof initial !== "string") set(initial as Operand<T>);
    return { ...instruction(type, "local.get", [0x20, ...code], [], [index]), set };
  }

  /** A new local with the address so many bytes behind another. */
  at(base: I32, offset: I32): Local<"i32"> {
    return this.local(add(base, offset));
  }

  /** A new local with the smaller of two, signed. */
  min = (a: I32, b: I32): Local<"i32"> => this.#first(less, a, b);
  max = (a: I32, b: I32): Local<"i32"> => this.#first(more, a, b);

  #first(isBefore: typeof less, ...both: readonly I32[]): Local<"i32"> {
    const [first, other] = both.map((value) => this.local(operand(value, "i32", "min or max")));
    this.if(isBefore(other, first), () => first.set(other));
    return first;
  }

  emit(value: Expr<"void">): void {
    if (value.type !== "void")
      throw new InternalError("wasm-operand", `emit: expected void, got ${String(value.type)}`);
    this.#open.push(value);
  }

  drop = (value: Expr<ValueType>): void => this.emit(instruction("void", "drop", [0x1a], [value]));
  return = (value: Expr<ValueType>): void =>
    this.emit(instruction("void", "return", [0x0f], [value]));

  /** The statements that `build` appends, instead of to the block that is open now. */
  #block(build: () => void): Statements {
    const outer = this.#open;
    const inside: Expr<"void">[] = [];
    this.#open = inside;
    build();
    this.#open = outer;
    return inside;
  }

  /** for (i = from; i < to; i += step), signed. Changes of `to` inside the loop do not count, unless it is a local. */
  for(from: I32, to: I32, step: I32, each: (i: Local<"i32">) => void): void {
    const i = this.local(operand(from, "i32", "for, from"));
    const end = operand(to, "i32", "for, to");
    const isSimple = end.name === "i32.const" || end.name === "local.get";
    const past = isSimple ? end : this.local(end);
    const goesOn = less(i, past);
    const round = (): void => {
      each(i);
      i.set(add(i, step));
    };
    if (typeof from === "number" && typeof to === "number" && from < to) this.#loop(goesOn, round);
    else this.while(goesOn, round);
  }

  /** while (condition) each(): computed once before and then at the bottom of each round. */
  while(condition: I32, each: () => void): void {
    this.if(condition, () => this.#loop(condition, each));
  }

  #loop(condition: I32, each: () => void): void {
    const label = `$loop${this.#loops++}`;
    const block = this.#block(() => {
      each();
      const again = operand(condition, "i32", "while");
      this.emit(instruction("void", "br_if", [0x0d, 0], [again], [label]));
    });
    this.emit(instruction("void", "loop", [0x03, 0x40], [], [label], [block]));
  }

  if(condition: I32, then: () => void, otherwise?: () => void): void {
    const test = operand(condition, "i32", "if");
    const blocks = [then, ...(otherwise ? [otherwise] : [])].map((build) => this.#block(build));
    this.emit(instruction("void", "if", [0x04, 0x40], [test], [], blocks));
  }
}
