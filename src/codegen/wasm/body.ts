import { InternalError } from "../../base/errors.ts";
import {
  makeExpr,
  operand,
  type Expr,
  type Operand,
  type ResultType,
  type ValueType,
} from "./expression.ts";

/** The target of branches. */
export interface Label {
  readonly name: string;
}
export type Statement =
  | { readonly kind: "do"; readonly value: Expr<"void"> }
  | { readonly kind: "drop"; readonly value: Expr<ValueType> }
  | { readonly kind: "set"; readonly local: number; readonly value: Expr<ValueType> }
  | { readonly kind: "loop"; readonly label: Label; readonly inside: readonly Statement[] }
  | {
      readonly kind: "if";
      readonly condition: Expr<"i32">;
      readonly inside: readonly Statement[];
      readonly otherwise: readonly Statement[];
    }
  | { readonly kind: "branch"; readonly to: Label; readonly condition: Expr<"i32"> }
  | { readonly kind: "return"; readonly value: Expr<ValueType> | undefined };

/** A local variable: an expression that reads it, and a place to write. */
export class Local<T extends ValueType> implements Expr<T> {
  readonly type: T;
  readonly term: Expr<T>["term"];
  readonly args: readonly Expr<ResultType>[] = [];
  readonly #body: Body;
  readonly #index: number;

  constructor(body: Body, type: T, index: number) {
    this.type = type;
    this.#body = body;
    this.#index = index;
    this.term = { kind: "get", local: index };
  }

  /** Appends an assignment to the block that is open in the function. */
  set(value: Operand<T>): void {
    this.#body.append({ kind: "set", local: this.#index, value: operand(value, this.type, "set") });
  }
}

/** The statements of a function. Blocks are callbacks that keep using the same body. */
export class Body {
  readonly statements: Statement[] = [];
  readonly locals: ValueType[] = [];
  readonly #firstLocal: number;
  #open: Statement[] = this.statements;
  #labels = 0;

  constructor(firstLocal: number) {
    this.#firstLocal = firstLocal;
  }

  append(statement: Statement): void {
    this.#open.push(statement);
  }

  /** A new local with a first value, or of a type (its value is then whatever it last was; zero at first). */
  local<T extends ValueType>(initial: Expr<T> | T): Local<T> {
    const type = typeof initial === "string" ? initial : initial.type;
    const local = new Local(this, type, this.addLocal(type));
    if (typeof initial !== "string") local.set(initial as Operand<T>);
    return local;
  }

  /** Its number. */
  addLocal(type: ValueType): number {
    return this.#firstLocal + this.locals.push(type) - 1;
  }

  emit(value: Expr<"void">): void {
    if (value.type !== "void")
      throw new InternalError("wasm-operand", `emit: expected void, got ${String(value.type)}`);
    this.append({ kind: "do", value });
  }

  drop(value: Expr<ValueType>): void {
    this.append({ kind: "drop", value });
  }

  #inside(build: () => void): Statement[] {
    const outer = this.#open;
    const inside: Statement[] = [];
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
    const simple = end.term.kind === "const" || end.term.kind === "get";
    const past: Expr<"i32"> = simple ? end : this.local(end);
    const less = instruction("i32.lt_s");
    const add = instruction("i32.add");
    const known = typeof from === "number" && typeof to === "number" && from < to;
    const loop = (): void =>
      this.#loop((again) => {
        each(i);
        i.set(add(i, operand(step, "i32", "for, step")));
        this.append({ kind: "branch", to: again, condition: less(i, past) });
      });
    if (known) loop();
    else this.if(less(i, past), loop);
  }

  /** while (condition()) each(): tested once before and then at the bottom. */
  while(condition: () => Operand<"i32">, each: () => void): void {
    this.if(operand(condition(), "i32", "while"), () =>
      this.#loop((again) => {
        each();
        this.append({ kind: "branch", to: again, condition: operand(condition(), "i32", "while") });
      }),
    );
  }

  #loop(build: (again: Label) => void): void {
    const label = { name: `loop${this.#labels++}` };
    this.append({ kind: "loop", label, inside: this.#inside(() => build(label)) });
  }

  if(condition: Operand<"i32">, then: () => void, otherwise?: () => void): void {
    const inside = this.#inside(then);
    this.append({
      kind: "if",
      condition: operand(condition, "i32", "if"),
      inside,
      otherwise: otherwise ? this.#inside(otherwise) : [],
    });
  }

  return(value?: Expr<ValueType>): void {
    this.append({ kind: "return", value });
  }
}

const instruction =
  (name: "i32.lt_s" | "i32.add") =>
  (a: Expr<"i32">, b: Expr<"i32">): Expr<"i32"> =>
    makeExpr("i32", { kind: "instruction", name, lane: 0, offset: 0 }, [a, b]);
