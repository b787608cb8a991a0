import { f32, f32x4, i32, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local, WasmModule } from "../../codegen/wasm/builder.ts";
import { expF32x4, sigmoidF32x4, tanhF32x4 } from "../../codegen/wasm/math.ts";
import type { ElementwiseName } from "../../ops/index.ts";
import { share } from "../linear/block.ts";

type V128 = Expr<"v128">;

/** Each operation on four lanes, in strict arithmetic. */
const vector: Readonly<Record<ElementwiseName, (body: Body, ...args: V128[]) => V128>> = {
  add: (_, a, b) => f32x4.add(a, b),
  sub: (_, a, b) => f32x4.sub(a, b),
  mul: (_, a, b) => f32x4.mul(a, b),
  div: (_, a, b) => f32x4.div(a, b),
  maximum: (_, a, b) => f32x4.max(a, b),
  minimum: (_, a, b) => f32x4.min(a, b),
  neg: (_, a) => f32x4.neg(a),
  abs: (_, a) => f32x4.abs(a),
  square: (body, a) => {
    const kept = body.local(a);
    return f32x4.mul(kept, kept);
  },
  sqrt: (_, a) => f32x4.sqrt(a),
  rsqrt: (_, a) => f32x4.div(f32x4.const([1, 1, 1, 1]), f32x4.sqrt(a)),
  exp: (body, a) => expF32x4(body, a),
  tanh: (body, a) => tanhF32x4(body, a),
  sigmoid: (body, a) => sigmoidF32x4(body, a),
  silu: (body, a) => {
    const kept = body.local(a);
    return f32x4.mul(kept, sigmoidF32x4(body, kept));
  },
  relu: (_, a) => f32x4.max(a, f32x4.const([0, 0, 0, 0])),
};

/** What an elementwise program computes: operations on inputs (by number) and constants. */
export type Formula =
  | { readonly kind: "input"; readonly input: number }
  | { readonly kind: "constant"; readonly value: number }
  | { readonly kind: "apply"; readonly op: ElementwiseName; readonly args: readonly Formula[] };

export const showFormula = (formula: Formula): string => {
  switch (formula.kind) {
    case "input":
      return `#${formula.input}`;
    case "constant":
      return String(formula.value);
    case "apply":
      return `${formula.op}(${formula.args.map(showFormula).join(", ")})`;
    default:
      return formula satisfies never;
  }
};

/** How an input lies against the output [rows, columns]: `dense` has its shape, `row` repeats [columns], `column` is [rows, 1]. */
export type Spread = "dense" | "row" | "column" | "single";

export interface ElementwiseSpec {
  readonly formula: Formula;
  readonly columns: number;
  readonly spreads: readonly Spread[];
}

const elementwiseParams = (inputs: number): Record<string, "i32"> => ({
  ...Object.fromEntries(Array.from({ length: inputs }, (_, i) => [`input${i}`, "i32" as const])),
  y: "i32",
  rows: "i32",
  thread: "i32",
  threads: "i32",
  scratch: "i32",
});

/** y = formula of the inputs, four columns at a time, the rest one by one. */
export function emitElementwise(module: WasmModule, name: string, spec: ElementwiseSpec): void {
  const { columns, spreads, formula } = spec;
  module.func(name, elementwiseParams(spreads.length), "void", (p, body) => {
    const { begin, end } = share(body, p.rows, p.thread, p.threads);
    body.for(begin, end, 1, (row) => {
      const bases = spreads.map((spread, i) =>
        body.local(baseOf(p[`input${i}`], spread, row, columns)),
      );
      const y = body.local(i32.add(p.y, i32.mul(row, 4 * columns)));
      const whole = columns - (columns % 4);
      const four = (offset: Expr<"i32">, single: boolean): V128 => {
        const load = single ? v128.load32_zero : v128.load;
        return emitFormula(body, formula, (input) =>
          spreads[input] === "column" || spreads[input] === "single"
            ? v128.load32_splat(bases[input])
            : load(i32.add(bases[input], offset)),
        );
      };
      body.for(0, 4 * whole, 16, (offset) =>
        body.emit(v128.store(i32.add(y, offset), four(offset, false))),
      );
      body.for(4 * whole, 4 * columns, 4, (offset) =>
        body.emit(f32.store(i32.add(y, offset), f32x4.extract_lane(four(offset, true), 0))),
      );
    });
  });
}

function baseOf(
  base: Local<"i32">,
  spread: Spread,
  row: Local<"i32">,
  columns: number,
): Expr<"i32"> {
  switch (spread) {
    case "dense":
      return i32.add(base, i32.mul(row, 4 * columns));
    case "column":
      return i32.add(base, i32.shl(row, 2));
    case "row":
    case "single":
      return base;
    default:
      return spread satisfies never;
  }
}

function emitFormula(body: Body, formula: Formula, load: (input: number) => V128): V128 {
  switch (formula.kind) {
    case "input":
      return load(formula.input);
    case "constant":
      return f32x4.splat(f32.const(formula.value));
    case "apply":
      return body.local(
        vector[formula.op](body, ...formula.args.map((arg) => emitFormula(body, arg, load))),
      );
    default:
      return formula satisfies never;
  }
}
