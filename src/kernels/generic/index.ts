import { UnsupportedError } from "../../base/errors.ts";
import { f32, i32, memory, type Expr } from "../../codegen/wasm/builder.ts";
import { maxOf, product, showShape, type Dim } from "../../ir/dim.ts";
import type { Node } from "../../ir/graph.ts";
import type { ReduceName } from "../../ops/index.ts";
import { columnsOf, offsetArg, rowsOf, type Lowering, type StepDraft } from "../kernel.ts";
import { rowAt, rowCall, stepOf, type Given } from "../program.ts";
import { lowerElementwise } from "./elementwise.ts";

type Lower = (node: Node, at: Lowering, inline: ReadonlySet<Node>) => StepDraft;

/** Plain loops, by the kind of the operation or, where that says too little, by its name. */
const loops: Readonly<Partial<Record<string, Lower>>> = {
  elementwise: lowerElementwise,
  movement: lowerView,
  reduce: lowerReduce,
  contract: lowerContract,
  take: lowerTake,
  last_row: lowerLastRow,
  concat: lowerConcat,
};

/** Code for an operation that no kernel takes. `inline` says which elementwise inputs are computed inside this one. */
export function lowerGeneric(node: Node, inline: ReadonlySet<Node>, at: Lowering): StepDraft[] {
  const lower = loops[node.op.kind] ?? loops[node.op.name];
  return [lower?.(node, at, inline) ?? noCode(node)];
}

function noCode({ op }: Node): never {
  throw new UnsupportedError("no-kernel", `no code for ${op.name} on the wasm device`);
}

/** y = x through an affine view, one element at a time; any axis may be symbolic. */
function lowerView(node: Node, at: Lowering): StepDraft {
  const { shape, op } = node;
  const { strides, offset = 0 } = op.view?.(node) ?? noCode(node);
  const sizes = [...shape, ...strides].filter((dim) => typeof dim !== "number");
  const given: Record<string, Given> = { x: node.inputs[0], y: node };
  for (const { name } of sizes) given[`size_${name}`] = { kind: "size", name, times: 1 };
  const name = `view ${showShape(shape)} ${showShape(strides)} +${offset}`;
  const call = rowCall(at, name, { rows: rowsOf(node, 0) }, given, (body, element, p) => {
    const sizeOf = (dim: Dim): Expr<"i32"> =>
      typeof dim === "number" ? i32.const(dim) : i32.mul(p[`size_${dim.name}`], dim.times);
    const from = body.local(i32.const(offset));
    const rest = body.local(element);
    for (const [axis, size] of [...shape.entries()].toReversed()) {
      const index = i32.rem_u(rest, sizeOf(size));
      from.set(i32.add(from, i32.mul(index, sizeOf(strides[axis]))));
      rest.set(i32.div_u(rest, sizeOf(size)));
    }
    const value = i32.load(i32.add(p.x, i32.shl(from, 2)));
    body.emit(i32.store(i32.add(p.y, i32.shl(element, 2)), value));
  });
  return stepOf(op.name, rowsOf(node), call);
}

type Join = typeof f32.add;
/** n values, joined to `start` one by one; then `end` of the total and n. */
const folds: Readonly<Record<ReduceName, { start: number; join: Join; end?: Join }>> = {
  sum: { start: 0, join: f32.add },
  mean: { start: 0, join: f32.add, end: f32.div },
  max: { start: -Infinity, join: f32.max },
};

/** y[row] = fold of the columns of x. */
function lowerReduce(node: Node, at: Lowering): StepDraft {
  const [x] = node.inputs;
  const { name } = node.op;
  const { start, join, end } = folds[name as ReduceName];
  const [columns, rows] = [columnsOf(x), rowsOf(x)];
  const call = rowCall(at, `${name} ${columns}`, { rows }, { x, y: node }, (body, row, p) => {
    const total = body.local(f32.const(start));
    const from = rowAt(body, p.x, row, 4 * columns);
    body.for(0, 4 * columns, 4, (offset) =>
      total.set(join(total, f32.load(i32.add(from, offset)))),
    );
    const result = end ? end(total, f32.const(columns)) : total;
    body.emit(f32.store(i32.add(p.y, i32.shl(row, 2)), result));
  });
  return stepOf(name, rows, call);
}

/** y = x Wᵀ with a plain f32 matrix [outputs, columns], dot by dot. */
function lowerContract(node: Node, at: Lowering): StepDraft {
  const [x, weight] = node.inputs;
  const [outputs, columns] = [columnsOf(node), columnsOf(x)];
  const rows = rowsOf(node);
  const name = `contract ${outputs}×${columns}`;
  const call = rowCall(at, name, { rows }, { x, weight, y: node }, (body, row, p) => {
    const x = rowAt(body, p.x, row, 4 * columns);
    const y = rowAt(body, p.y, row, 4 * outputs);
    const weight = body.local(p.weight);
    body.for(0, outputs, 1, () => {
      const dot = body.local(f32.const(0));
      body.for(0, 4 * columns, 4, (offset) => {
        const product = f32.mul(f32.load(i32.add(x, offset)), f32.load(i32.add(weight, offset)));
        dot.set(f32.add(dot, product));
      });
      body.emit(f32.store(y, dot));
      y.set(i32.add(y, 4));
      weight.set(i32.add(weight, 4 * columns));
    });
  });
  return stepOf("contract", rows, call);
}

/** Rows of a table by id. */
function lowerTake(node: Node, at: Lowering): StepDraft {
  const [table, ids] = node.inputs;
  const bytes = 4 * maxOf(product(table.shape.slice(1)));
  const rows = rowsOf(node, node.shape.length - ids.shape.length);
  const call = rowCall(at, "take", { rows }, { table, ids, y: node, bytes }, (body, row, p) => {
    const id = i32.load(i32.add(p.ids, i32.shl(row, 2)));
    const from = rowAt(body, p.table, id, p.bytes);
    body.emit(memory.copy(rowAt(body, p.y, row, p.bytes), from, p.bytes));
  });
  return stepOf("take", rows, call);
}

function lowerLastRow(node: Node, at: Lowering): StepDraft {
  const [x] = node.inputs;
  const bytes = 4 * maxOf(product(node.shape));
  const given = { x, y: node, bytes, count: rowsOf(x, x.shape.length - 1) };
  const once = { rows: { kind: "constant", value: 1 } } as const;
  const call = rowCall(at, "last-row", once, given, (body, _, p) => {
    const from = rowAt(body, p.x, i32.sub(p.count, 1), p.bytes);
    body.emit(memory.copy(p.y, from, p.bytes));
  });
  return stepOf("last-row", rowsOf(node), call);
}

/** Copies the rows of each part to their place in the longer rows. */
function lowerConcat(node: Node, at: Lowering): StepDraft {
  const rows = rowsOf(node);
  const stride = 4 * columnsOf(node);
  let offset = 0;
  const calls = node.inputs.map((x) => {
    const bytes = 4 * columnsOf(x);
    const given = { x, y: offsetArg(at.address(node), offset), stride, bytes };
    offset += bytes;
    return rowCall(at, "copy-rows", { rows }, given, (body, row, p) => {
      const from = rowAt(body, p.x, row, p.bytes);
      body.emit(memory.copy(rowAt(body, p.y, row, p.stride), from, p.bytes));
    });
  });
  return stepOf("concat", rows, ...calls);
}
