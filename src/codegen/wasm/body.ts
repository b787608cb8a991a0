import { InternalError } from "../../base/errors.ts";
import { unsigned } from "./bytes.ts";
import { instruction, namespace, operand } from "./expression.ts";
import type { Expr, Operand, Statements, ValueType } from "./expression.ts";

/** A local variable: an expression that reads it, and a place to write. */
export interface Local<T extends ValueType> extends Expr<T> {
  assign(value: Operand<T>): Expr<"void">;
  /** Appends an assignment to the block that is open in the function. */
  set(value: Operand<T>): void;
}

export function localOf<T extends ValueType>(body: Body, type: T, index: number): Local<T> {
  const show = (): string => ` ${index}`;
  const bytes = [0x21, ...unsigned(index)];
  const assign = (value: Operand<T>): Expr<"void"> =>
    instruction("void", "local.set", bytes, [operand(value, type, "set")], show);
  const get = instruction(type, "local.get", [0x20, ...unsigned(index)], [], show);
  return { ...get, assign, set: (value) => body.emit(assign(value)) };
}

const { add, lt_s: less } = namespace("i32");

/** The statements of a function. Blocks are callbacks that keep using the same body. */
export class Body {
  readonly statements: Expr<"void">[] = [];
  readonly locals: ValueType[] = [];
  readonly #firstLocal: number;
  #open = this.statements;
  #loops = 0;

  constructor(firstLocal: number) {
    this.#firstLocal = firstLocal;
  }

  /** A new local with a first value, or of a type (its value is then whatever it last was; zero at first). */
  local<T extends ValueType>(initial: Expr<T> | T): Local<T> {
    const type = typeof initial === "string" ? initial : initial.type;
    const local = localOf(this, type, this.#firstLocal + this.locals.length);
    this.locals.push(type);
    if (typeof initial !== "string") local.set(initial as Operand<T>);
    return local;
  }

  emit(value: Expr<"void">): void {
    if (value.type !== "void")
      throw new InternalError("wasm-operand", `emit: expected void, got ${String(value.type)}`);
    this.#open.push(value);
  }

  drop(value: Expr<ValueType>): void {
    this.emit(instruction("void", "drop", [0x1a], [value]));
  }

  return(value?: Expr<ValueType>): void {
    this.emit(instruction("void", "return", [0x0f], value ? [value] : []));
  }

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
  for(
    from: Operand<"i32">,
    to: Operand<"i32">,
    step: Operand<"i32">,
    each: (i: Local<"i32">) => void,
  ): void {
    const i = this.local(operand(from, "i32", "for, from"));
    const end = operand(to, "i32", "for, to");
    const isSimple = end.name === "i32.const" || end.name === "local.get";
    const past = isSimple ? end : this.local(end);
    const loop = (): void =>
      this.#loop(() => {
        each(i);
        i.set(add(i, operand(step, "i32", "for, step")));
        return less(i, past);
      });
    if (typeof from === "number" && typeof to === "number" && from < to) loop();
    else this.if(less(i, past), loop);
  }

  /** while (condition()) each(): tested once before and then at the bottom. */
  while(condition: () => Operand<"i32">, each: () => void): void {
    const round = (): Operand<"i32"> => {
      each();
      return condition();
    };
    this.if(condition(), () => this.#loop(round));
  }

  /** Runs `round` as long as the condition that it ends with holds. */
  #loop(round: () => Operand<"i32">): void {
    const label = ` $loop${this.#loops++}`;
    const block = this.#block(() => {
      const again = operand(round(), "i32", "while");
      this.emit(instruction("void", "br_if", [0x0d, 0], [again], () => label));
    });
    this.#open.push({
      ...instruction("void", "loop", [0x03, 0x40], [], () => label),
      blocks: [block],
    });
  }

  if(condition: Operand<"i32">, then: () => void, otherwise?: () => void): void {
    const start = instruction("void", "if", [0x04, 0x40], [operand(condition, "i32", "if")]);
    const blocks = otherwise ? [then, otherwise] : [then];
    this.#open.push({ ...start, blocks: blocks.map((build) => this.#block(build)) });
  }
}
