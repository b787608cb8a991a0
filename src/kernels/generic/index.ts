import { UnsupportedError } from "../../base/errors.ts";
import { maxOf, product, sameDim, type Dim } from "../../ir/dim.ts";
import type { Node } from "../../ir/graph.ts";
import { isScalar, type ElementwiseName, type ReduceName } from "../../ops/index.ts";
import type { Argument, Call } from "../../plan/plan.ts";
import {
  columnsOf,
  constantArg,
  offsetArg,
  rowsArg,
  rowsOf,
  unlimited,
  type Lowering,
  type StepDraft,
} from "../kernel.ts";
import { emitElementwise, showFormula, type Formula, type Spread } from "./elementwise.ts";
import {
  emitContract,
  emitCopyRows,
  emitLastRow,
  emitReduce,
  emitTake,
  emitView,
  viewParams,
  type Size,
  type ViewSpec,
} from "./loops.ts";

/** Code for an operation that no kernel takes. `inline` says which elementwise inputs are computed inside this one. */
export function lowerGeneric(node: Node, inline: ReadonlySet<Node>, at: Lowering): StepDraft[] {
  switch (node.op.kind) {
    case "elementwise":
      return lowerElementwise(node, inline, at);
    case "movement":
      return lowerView(node, at);
    case "reduce":
      return lowerReduce(node, at);
    case "contract":
      return lowerContract(node, at);
    case "gather":
      return lowerGather(node, at);
    case "source":
    case "cache":
    case "round":
      throw new UnsupportedError("no-kernel", `no code for ${node.op.name} on the wasm device`);
    default:
      return node.op.kind satisfies never;
  }
}

const one = (name: string, node: Node, call: Call, rows = rowsOf(node)): StepDraft[] => [
  { name, rows, variants: [{ maxRows: unlimited, calls: [call] }] },
];

/** Values that a fused elementwise program reads, in order. */
export function elementwiseInputs(node: Node, inline: ReadonlySet<Node>): Node[] {
  const found: Node[] = [];
  for (const input of node.inputs) {
    const inner = inline.has(input)
      ? elementwiseInputs(input, inline)
      : isScalar(input)
        ? []
        : [input];
    for (const leaf of inner) if (!found.includes(leaf)) found.push(leaf);
  }
  return found;
}

function lowerElementwise(node: Node, inline: ReadonlySet<Node>, at: Lowering): StepDraft[] {
  const inputs = elementwiseInputs(node, inline);
  const formulaOf = (value: Node): Formula => {
    if (isScalar(value)) return { kind: "constant", value: value.number("value") };
    if (value !== node && !inline.has(value))
      return { kind: "input", input: inputs.indexOf(value) };
    return {
      kind: "apply",
      op: value.op.name as ElementwiseName,
      args: value.inputs.map(formulaOf),
    };
  };
  const formula = formulaOf(node);
  const columns = columnsOf(node);
  const spreads = inputs.map((input) => spreadOf(input, node));
  const name = `elementwise ${showFormula(formula)} ${columns} ${spreads.join(" ")}`;
  const program = at.program(name, (module, key) =>
    emitElementwise(module, key, { formula, columns, spreads }),
  );
  const args = [
    ...inputs.map((input) => at.address(input)),
    at.address(node),
    rowsArg(rowsOf(node)),
  ];
  return one(`elementwise ${showFormula(formula)}`, node, { program, args });
}

function spreadOf(input: Node, output: Node): Spread {
  const shape = input.shape;
  const to = output.shape;
  const size = product(shape);
  if (size === 1) return "single";
  if (sameDim(size, product(to))) return "dense";
  const last = shape.at(-1);
  if (last === to.at(-1) && sameDim(size, last ?? 1)) return "row";
  if (last === 1 && sameDim(product(shape), product(to.slice(0, -1)))) return "column";
  throw new UnsupportedError(
    "broadcast",
    `${output.op.name}: this kind of broadcasting has no code on the wasm device`,
  );
}

const sizeOf = (dim: Dim): Size =>
  typeof dim === "number" ? dim : { param: `size_${dim.name}`, times: dim.times };
/** Arguments for the sizes among a program's parameters. */
const sizeArgs = (params: readonly string[]): Argument[] =>
  params
    .filter((param) => param.startsWith("size_"))
    .map((param) => ({ kind: "size", name: param.slice("size_".length), times: 1 }));

/** Row-major strides as products of sizes. */
const strideFactors = (shape: readonly Dim[]): Size[][] =>
  shape.map((_, axis) => shape.slice(axis + 1).map(sizeOf));

function viewOf(node: Node): ViewSpec {
  const from = strideFactors(node.inputs[0].shape);
  const shape = node.shape.map(sizeOf);
  switch (node.op.name) {
    case "permute":
      return { shape, offset: 0, strides: node.dims("order").map((axis) => from[Number(axis)]) };
    case "chunk":
      return { shape, offset: node.number("index") * columnsOf(node), strides: from };
    case "slice":
      return { shape, offset: node.number("start"), strides: from };
    default:
      throw new UnsupportedError("no-kernel", `no code for the movement ${node.op.name}`);
  }
}

function lowerView(node: Node, at: Lowering): StepDraft[] {
  const spec = viewOf(node);
  const name = `${node.op.name} ${JSON.stringify(spec)}`;
  const program = at.program(name, (module, key) => emitView(module, key, spec));
  const args = [
    at.address(node.inputs[0]),
    at.address(node),
    ...sizeArgs(Object.keys(viewParams(spec))),
  ];
  return one(node.op.name, node, { program, args });
}

function lowerReduce(node: Node, at: Lowering): StepDraft[] {
  const [x] = node.inputs;
  const kind = node.op.name as ReduceName;
  const columns = columnsOf(x);
  const program = at.program(`${kind} ${columns}`, (module, name) =>
    emitReduce(module, name, kind, columns),
  );
  const rows = rowsOf(x);
  return one(kind, node, { program, args: [at.address(x), at.address(node), rowsArg(rows)] }, rows);
}

function lowerContract(node: Node, at: Lowering): StepDraft[] {
  const [x, weight] = node.inputs;
  const [outputs, columns] = [columnsOf(node), columnsOf(x)];
  const program = at.program(`contract ${outputs}×${columns}`, (module, name) =>
    emitContract(module, name, outputs, columns),
  );
  const args = [at.address(x), at.address(weight), at.address(node), rowsArg(rowsOf(node))];
  return one("contract", node, { program, args });
}

function lowerGather(node: Node, at: Lowering): StepDraft[] {
  switch (node.op.name) {
    case "take": {
      const [table, ids] = node.inputs;
      const bytes = 4 * maxOf(product(table.shape.slice(1)));
      const program = at.program("take", emitTake);
      const rows = rowsOf(node, node.shape.length - ids.shape.length);
      const args = [
        at.address(table),
        at.address(ids),
        at.address(node),
        constantArg(bytes),
        rowsArg(rows),
      ];
      return one("take", node, { program, args }, rows);
    }
    case "last_row": {
      const [x] = node.inputs;
      const program = at.program("last-row", emitLastRow);
      const args = [
        at.address(x),
        at.address(node),
        constantArg(4 * maxOf(product(node.shape))),
        rowsArg(rowsOf(x, x.shape.length - 1)),
      ];
      return one("last-row", node, { program, args });
    }
    case "concat":
      return lowerConcat(node, at);
    default:
      throw new UnsupportedError("no-kernel", `no code for ${node.op.name} on the wasm device`);
  }
}

function lowerConcat(node: Node, at: Lowering): StepDraft[] {
  const program = at.program("copy-rows", emitCopyRows);
  const width = 4 * columnsOf(node);
  const rows = rowsOf(node);
  let offset = 0;
  const calls = node.inputs.map((part): Call => {
    const bytes = 4 * columnsOf(part);
    const to = offsetArg(at.address(node), offset);
    offset += bytes;
    const args = [
      at.address(part),
      to,
      constantArg(bytes),
      constantArg(width),
      constantArg(bytes),
      rowsArg(rows),
    ];
    return { program, args };
  });
  return [{ name: "concat", rows, variants: [{ maxRows: unlimited, calls }] }];
}
