import { UnsupportedError } from "../../base/errors.ts";
import { f32, f32x4, i32, v128, type Body, type Expr } from "../../codegen/wasm/builder.ts";
import type { V128 } from "../../codegen/wasm/builder.ts";
import { expF32x4, sigmoidF32x4, tanhF32x4 } from "../../codegen/wasm/math.ts";
import { product, sameDim } from "../../ir/dim.ts";
import type { Node } from "../../ir/graph.ts";
import { isScalar, type ElementwiseName } from "../../ops/index.ts";
import { columnsOf, rowsOf, type Lowering, type StepDraft } from "../kernel.ts";
import { rowAt, rowCall, stepOf } from "../program.ts";

/** Each operation on four lanes that are kept in locals, in strict arithmetic. */
const vector: Readonly<Record<ElementwiseName, (a: V128, b: V128, body: Body) => V128>> = {
  add: f32x4.add,
  sub: f32x4.sub,
  mul: f32x4.mul,
  div: f32x4.div,
  maximum: f32x4.max,
  minimum: f32x4.min,
  neg: f32x4.neg,
  abs: f32x4.abs,
  square: (a) => f32x4.mul(a, a),
  sqrt: f32x4.sqrt,
  rsqrt: (a) => f32x4.div(f32x4.const(1), f32x4.sqrt(a)),
  exp: (a, _, body) => expF32x4(body, a),
  tanh: (a, _, body) => tanhF32x4(body, a),
  sigmoid: (a, _, body) => sigmoidF32x4(body, a),
  silu: (a, _, body) => f32x4.mul(a, sigmoidF32x4(body, a)),
  relu: (a) => f32x4.max(a, f32x4.const(0)),
};

/** Computes a node from the leaves of what is fused into it. */
function formula<T>(
  root: Node,
  inline: ReadonlySet<Node>,
  leaf: (value: Node) => T,
  apply: (op: ElementwiseName, args: readonly T[]) => T,
): T {
  const of = (value: Node): T =>
    value === root || inline.has(value)
      ? apply(value.op.name as ElementwiseName, value.inputs.map(of))
      : leaf(value);
  return of(root);
}

/** Values that a fused elementwise program reads, in order. */
export function elementwiseInputs(node: Node, inline: ReadonlySet<Node>): Node[] {
  const found = new Set<Node>();
  const leaf = (value: Node): unknown => isScalar(value) || found.add(value);
  formula(node, inline, leaf, () => undefined);
  return [...found];
}

/** y = formula of the inputs, four columns at a time, the rest one by one. */
export function lowerElementwise(node: Node, at: Lowering, inline: ReadonlySet<Node>): StepDraft {
  const inputs = elementwiseInputs(node, inline);
  const shown = formula(
    node,
    inline,
    (leaf) => (isScalar(leaf) ? String(leaf.number("value")) : `#${inputs.indexOf(leaf)}`),
    (op, args) => `${op}(${args.join(", ")})`,
  );
  const columns = columnsOf(node);
  const strides = inputs.map((input) => stridesIn(input, node));
  const name = `elementwise ${shown} ${columns} ${strides.map((pair) => pair.join("/")).join(" ")}`;
  const given = Object.fromEntries(inputs.map((input, i) => [`input${i}`, input]));
  const rows = rowsOf(node);
  const call = rowCall<string>(at, name, { rows }, { ...given, y: node }, (body, row, p) => {
    const bases = strides.map(([stride], i) => rowAt(body, p[`input${i}`], row, stride));
    const y = rowAt(body, p.y, row, 4 * columns);
    const valueAt = (offset: Expr<"i32">, load: typeof v128.load | typeof v128.load32_zero): V128 =>
      formula<V128>(
        node,
        inline,
        (leaf) => {
          if (isScalar(leaf)) return f32x4.splat(f32.const(leaf.number("value")));
          const input = inputs.indexOf(leaf);
          if (strides[input][1] === 0) return body.local(v128.load32_splat(bases[input]));
          return body.local(load(i32.add(bases[input], offset)));
        },
        (op, [a, b = a]) => body.local(vector[op](a, b, body)),
      );
    const whole = columns - (columns % 4);
    body.for(0, 4 * whole, 16, (offset) =>
      body.emit(v128.store(i32.add(y, offset), valueAt(offset, v128.load))),
    );
    body.for(4 * whole, 4 * columns, 4, (offset) => {
      const value = valueAt(offset, v128.load32_zero);
      body.emit(f32.store(i32.add(y, offset), f32x4.extract_lane(value, 0)));
    });
  });
  return stepOf(`elementwise ${shown}`, rows, call);
}

/** How far apart, in bytes, the rows and the columns of an input lie where it is spread over the output [rows, columns]. */
function stridesIn(input: Node, output: Node): readonly [row: number, column: number] {
  const to = output.shape;
  const size = product(input.shape);
  const last = input.shape.at(-1) ?? 1;
  if (size === 1) return [0, 0];
  if (sameDim(size, product(to))) return [4 * columnsOf(output), 4];
  if (last === to.at(-1) && sameDim(size, last)) return [0, 4];
  if (last === 1 && sameDim(size, product(to.slice(0, -1)))) return [4, 0];
  const problem = "this kind of broadcasting has no code on the wasm device";
  throw new UnsupportedError("broadcast", `${output.op.name}: ${problem}`);
}
