import { f32, i32 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local, WasmModule } from "../../codegen/wasm/builder.ts";
import type { ReduceName } from "../../ops/index.ts";
import { share } from "../linear/block.ts";

/**
 * Plain loops for operations that no kernel takes. Sizes are expressions over the parameters, so that any axis may be
 * symbolic; one element is computed at a time.
 */
export type Size = number | { readonly param: string; readonly times: number };

const tail = { thread: "i32", threads: "i32", scratch: "i32" } as const;
type Params = Record<string, Local<"i32">>;
const sizeParams = (sizes: readonly Size[]): Record<string, "i32"> =>
  Object.fromEntries(
    sizes.flatMap((size) => (typeof size === "number" ? [] : [[size.param, "i32" as const]])),
  );
const sizeOf = (p: Params, size: Size): Expr<"i32"> =>
  typeof size === "number" ? i32.const(size) : i32.mul(p[size.param], size.times);

const productOf = (p: Params, sizes: readonly Size[]): Expr<"i32"> =>
  sizes.reduce<Expr<"i32">>((all, size) => i32.mul(all, sizeOf(p, size)), i32.const(1));

/** Where an element of the output lies in the input: a stride for each output axis, as a product of sizes. */
export interface ViewSpec {
  readonly shape: readonly Size[];
  readonly strides: readonly (readonly Size[])[];
  readonly offset: number;
}
export const viewParams = (spec: ViewSpec): Record<string, "i32"> => ({
  x: "i32",
  y: "i32",
  ...sizeParams([...spec.shape, ...spec.strides.flat()]),
  ...tail,
});

/** y = x through an affine view: reshape, permute, chunk, slice. */
export function emitView(module: WasmModule, name: string, spec: ViewSpec): void {
  module.func(name, viewParams(spec), "void", (p, body) => {
    const sizes = spec.shape.map((size) => body.local(sizeOf(p, size)));
    const strides = spec.strides.map((factors) => body.local(productOf(p, factors)));
    const { begin, end } = share(body, productOf(p, spec.shape), p.thread, p.threads);
    body.for(begin, end, 1, (at) => {
      const from = body.local(i32.const(spec.offset));
      const rest = body.local(at);
      for (let axis = sizes.length - 1; axis >= 0; axis--) {
        const index = i32.rem_u(rest, sizes[axis]);
        from.set(i32.add(from, i32.mul(index, strides[axis])));
        rest.set(i32.div_u(rest, sizes[axis]));
      }
      body.emit(i32.store(i32.add(p.y, i32.shl(at, 2)), i32.load(i32.add(p.x, i32.shl(from, 2)))));
    });
  });
}

const rowsTail = { x: "i32", y: "i32", rows: "i32", ...tail } as const;

/** y[row] = fold of the columns of x. */
export function emitReduce(
  module: WasmModule,
  name: string,
  kind: ReduceName,
  columns: number,
): void {
  module.func(name, rowsTail, "void", (p, body) => {
    forRows(body, p, (row) => {
      const total = body.local(f32.const(kind === "max" ? -Infinity : 0));
      const from = body.local(i32.add(p.x, i32.mul(row, 4 * columns)));
      body.for(0, 4 * columns, 4, (offset) => {
        const value = f32.load(i32.add(from, offset));
        total.set(kind === "max" ? f32.max(total, value) : f32.add(total, value));
      });
      const result = kind === "mean" ? f32.div(total, f32.const(columns)) : total;
      body.emit(f32.store(i32.add(p.y, i32.shl(row, 2)), result));
    });
  });
}

function forRows(body: Body, p: Params, each: (row: Local<"i32">) => void): void {
  const { begin, end } = share(body, p.rows, p.thread, p.threads);
  body.for(begin, end, 1, each);
}

const contractParams = { x: "i32", weight: "i32", y: "i32", rows: "i32", ...tail } as const;

/** y = x Wᵀ with a plain f32 matrix [outputs, columns], dot by dot. */
export function emitContract(
  module: WasmModule,
  name: string,
  outputs: number,
  columns: number,
): void {
  module.func(name, contractParams, "void", (p, body) => {
    forRows(body, p, (row) => {
      const x = body.local(i32.add(p.x, i32.mul(row, 4 * columns)));
      const y = body.local(i32.add(p.y, i32.mul(row, 4 * outputs)));
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
  });
}

const copyParams = {
  x: "i32",
  y: "i32",
  xStride: "i32",
  yStride: "i32",
  bytes: "i32",
  rows: "i32",
  ...tail,
} as const;

/** Copies `bytes` of each row from one stride to another: parts of a concat, the last row. */
export function emitCopyRows(module: WasmModule, name: string): void {
  module.func(name, copyParams, "void", (p, body) => {
    forRows(body, p, (row) => {
      const from = body.local(i32.add(p.x, i32.mul(row, p.xStride)));
      const to = body.local(i32.add(p.y, i32.mul(row, p.yStride)));
      copyWords(body, from, to, p.bytes);
    });
  });
}

const takeParams = {
  table: "i32",
  ids: "i32",
  y: "i32",
  bytes: "i32",
  rows: "i32",
  ...tail,
} as const;

/** Rows of `bytes` bytes of a table by id. */
export function emitTake(module: WasmModule, name: string): void {
  module.func(name, takeParams, "void", (p, body) => {
    forRows(body, p, (row) => {
      const id = i32.load(i32.add(p.ids, i32.shl(row, 2)));
      const from = body.local(i32.add(p.table, i32.mul(id, p.bytes)));
      const to = body.local(i32.add(p.y, i32.mul(row, p.bytes)));
      copyWords(body, from, to, p.bytes);
    });
  });
}

const lastParams = { x: "i32", y: "i32", bytes: "i32", rows: "i32", ...tail } as const;

/** The last of `rows` rows of `bytes` bytes. */
export function emitLastRow(module: WasmModule, name: string): void {
  module.func(name, lastParams, "void", (p, body) => {
    body.if(i32.eqz(p.thread), () => {
      const from = body.local(i32.add(p.x, i32.mul(i32.sub(p.rows, 1), p.bytes)));
      copyWords(body, from, p.y, p.bytes);
    });
  });
}

function copyWords(body: Body, from: Local<"i32">, to: Local<"i32">, bytes: Expr<"i32">): void {
  body.for(0, bytes, 4, (offset) =>
    body.emit(i32.store(i32.add(to, offset), i32.load(i32.add(from, offset)))),
  );
}
