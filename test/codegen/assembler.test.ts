import { describe, expect, it } from "vitest";
import wabtModule from "wabt";
import {
  f32,
  f32x4,
  i16x8,
  i32,
  i32x4,
  i8x16,
  memory,
  v128,
  WasmModule,
} from "../../src/codegen/wasm/builder.ts";
import {
  constant,
  type Expr,
  type ResultType,
  type ValueType,
} from "../../src/codegen/wasm/expression.ts";
import { families } from "../../src/codegen/wasm/opcodes.ts";
import { symbolic } from "../../src/ir/dim.ts";
import { graphOf } from "../../src/ir/graph.ts";
import * as ops from "../../src/ops/index.ts";
import { formatNames, formats } from "../../src/quant/formats.ts";
import { compileModel } from "../conformance/harness.ts";
import { randomWeight } from "../conformance/random.ts";
import { targets } from "../conformance/targets.ts";

const wabt = await wabtModule();
const features = { simd: true, relaxed_simd: true, threads: true, bulk_memory: true } as const;
const shared = { memory: { initial: 1, maximum: 1, shared: true } } as const;

function disassemble(bytes: Uint8Array): string {
  const module = wabt.readWasm(bytes, { ...features, readDebugNames: false });
  try {
    return module.toText({ foldExprs: true, inlineExport: false });
  } finally {
    module.destroy();
  }
}

function assemble(text: string): Uint8Array {
  const module = wabt.parseWat("module.wat", new TextEncoder().encode(text), features);
  try {
    return module.toBinary({ canonicalize_lebs: true }).buffer;
  } finally {
    module.destroy();
  }
}

type Argument = Expr<ValueType> | number | readonly number[];
function someOf(type: ValueType | "lane" | "order"): Argument {
  if (type === "lane") return 1;
  if (type === "order") return Array.from({ length: 16 }, (_, at) => 31 - 2 * at);
  return type === "v128" ? i32x4.const([1, 2, 3, 4]) : constant(type, 6);
}
type Method = (...args: Argument[]) => Expr<ResultType>;
const namespaces: Record<string, object> = { f32, f32x4, i16x8, i32, i32x4, i8x16, memory, v128 };

const instructions = families.flatMap(([prefix, signature, codes, align]) =>
  Object.keys(codes).map((name) => ({ prefix, name, signature, align })),
);

/** A function for each instruction of the table. */
function everyInstruction(): WasmModule {
  const module = new WasmModule(shared);
  for (const { prefix, name, signature, align } of instructions) {
    const [operands, result] = signature.split(" -> ") as [string, ResultType];
    const args = (operands.split(" ") as ValueType[]).map(someOf);
    const method = (namespaces[prefix] as Record<string, Method>)[name];
    const offset = align === undefined ? [] : [4];
    module.func(`${prefix}.${name}`, {}, result, (_, body) => {
      const value = method(...args, ...offset);
      if (result === "void") body.emit(value as Expr<"void">);
      else body.return(value as Expr<ValueType>);
    });
  }
  return module;
}

describe("assembler", () => {
  it("writes every instruction of the table so that engines and wabt read the same", () => {
    const module = everyInstruction();
    const bytes = module.toBytes();
    expect(WebAssembly.validate(bytes)).toBe(true);
    const words = new Set(disassemble(bytes).split(/[\s()]+/));
    expect(instructions.filter(({ prefix, name }) => !words.has(`${prefix}.${name}`))).toEqual([]);
  });

  it("prints text that wabt assembles to the same bytes", () => {
    const module = everyInstruction();
    expect(assemble(module.toText())).toEqual(module.toBytes());
  });

  it("writes constants, loops, branches and calls as wabt does", () => {
    const module = new WasmModule(shared);
    const helper = module.func(
      "add one (×2), [a]",
      { x: "i32", y: "f32" },
      "f32",
      ({ x, y }, body) => body.return(f32.add(f32.convert_i32_s(i32.add(x, 1)), y)),
      { export: false },
    );
    module.func("main", { n: "i32", bits: "v128" }, "f32", ({ n, bits }, body) => {
      const sum = body.local(f32.const(-0));
      for (const value of [0.1, Infinity, -Infinity, 1e-45, 3.4028234663852886e38, -1e30, 1 / 3])
        sum.set(f32.add(sum, f32.const(value)));
      for (const value of [0, -1, 63, 64, -64, -65, 127, 128, 2 ** 31 - 1, -(2 ** 31)])
        body.if(i32.eq(n, value), () => sum.set(helper.call(n, sum)));
      body.for(0, n, 3, (i) =>
        body.for(i, 7, 1, (j) =>
          body.if(
            i32.lt_s(j, n),
            () => sum.set(f32.mul(sum, 2)),
            () => body.for(n, i, n, () => body.drop(i32.const(3))),
          ),
        ),
      );
      body.while(i32.gt_s(n, 0), () => n.set(i32.sub(n, 1)));
      bits.set(
        i8x16.shuffle(
          bits,
          i16x8.const([1, -2, 3, -4, 5, -6, 7, -8]),
          [0, 31, 1, 30, 2, 29, 3, 28, 4, 27, 5, 26, 6, 25, 7, 24],
        ),
      );
      body.emit(memory.fill(0, 255, n));
      body.emit(v128.store(n, f32x4.const([0.5, NaN, -0, Infinity]), 65_536));
      body.return(f32x4.extract_lane(bits, 3));
    });
    const bytes = module.toBytes();
    expect(WebAssembly.validate(bytes)).toBe(true);
    expect(assemble(module.toText())).toEqual(bytes);
  });

  it("writes all programs of all targets and formats as wabt does, the same from run to run", () => {
    const rows = symbolic("rows", 1, 8);
    const graphs = formatNames.map((format) => {
      const columns = Math.max(32, formats[format].block);
      const x = ops.input("x", "f32", [rows, columns]);
      const cache = ops.input("cache", "cache", []);
      const y = ops.linear(x, ops.param(format, [32, columns]));
      const shape = { layer: 0, heads: 2, kvHeads: 1, headDim: 8, kv: "f32" } as const;
      const seen = ops.attend(ops.ropeAppend(y, cache, { ...shape, ropeBase: 10_000 }), cache, {
        ...shape,
        scale: 1,
      });
      return graphOf(format, [x, cache], [{ name: "y", node: ops.exp(seen) }]);
    });
    const weights = formatNames.map((format) =>
      randomWeight(format, format, 32, Math.max(32, formats[format].block), 1),
    );
    for (const [at, target] of targets.entries()) {
      const kv = (["f32", "f16", "q8"] as const)[at % 3];
      const model = { graphs, weights, kv, digits: at < 4 ? 1 : 2 } as const;
      const compiled = () => compileModel(model, target.features);
      const { plan, text } = compiled();
      expect(assemble(text()), target.name).toEqual(plan.module);
      expect(compiled().text()).toBe(text());
    }
  });
});

describe("builder", () => {
  it("refuses operands of another type", () => {
    const wrong = i32.const(1) as Expr<ValueType>;
    expect(() => f32.add(wrong as Expr<"f32">, 1)).toThrow(
      "f32.add, operand 0: expected f32, got i32",
    );
    expect(() => v128.store(0, wrong as Expr<"v128">)).toThrow(
      "v128.store, operand 1: expected v128, got i32",
    );
    const module = new WasmModule(shared);
    module.func("f", { x: "f32" }, "void", ({ x }, body) => {
      expect(() => x.set(wrong as Expr<"f32">)).toThrow("set: expected f32, got i32");
      expect(() => body.if(x as Expr<ValueType> as Expr<"i32">, () => {})).toThrow(
        "if: expected i32, got f32",
      );
      expect(() => body.emit(wrong as Expr<ResultType> as Expr<"void">)).toThrow(
        "emit: expected void, got i32",
      );
    });
  });

  it("refuses calls with too few arguments or those of another type", () => {
    const module = new WasmModule(shared);
    const callee = module.func("callee", { x: "i32", y: "f32" }, "void", () => {});
    expect(() => callee.call(1)).toThrow("callee: expected 2 arguments, got 1");
    expect(() => callee.call(1, i32.const(2))).toThrow(
      "call of callee, argument 1: expected f32, got i32",
    );
  });

  it("types that TypeScript checks too", () => {
    // @ts-expect-error a vector is no integer
    expect(() => i32.add(i32x4.splat(1), 2)).toThrow("expected i32, got v128");
    // @ts-expect-error a lane is needed
    f32x4.extract_lane(i32x4.splat(1));
  });

  it("fills all lanes with the one number of a constant", () => {
    expect(i8x16.const(-1)).toEqual(i8x16.const(Array(16).fill(-1)));
    expect(f32x4.const(0.1)).toEqual(f32x4.const([0.1, 0.1, 0.1, 0.1]));
  });

  it("takes the smaller and the larger of two", () => {
    const module = new WasmModule({ memory: { initial: 1, maximum: 1, shared: false } });
    const two = { a: "i32", b: "i32" } as const;
    module.func("min", two, "i32", ({ a, b }, body) => body.return(body.min(a, b)));
    module.func("max", two, "i32", ({ a, b }, body) => body.return(body.max(a, b)));
    const env = { memory: new WebAssembly.Memory({ initial: 1, maximum: 1 }) };
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.toBytes()), { env });
    const [min, max] = [exports.min, exports.max] as ((a: number, b: number) => number)[];
    for (const [a, b] of [
      [-1, 1],
      [1, -1],
      [3, 3],
    ])
      expect([min(a, b), max(a, b)]).toEqual([Math.min(a, b), Math.max(a, b)]);
  });

  it("loops as JavaScript does", () => {
    const module = new WasmModule({ memory: { initial: 1, maximum: 1, shared: false } });
    module.func(
      "count",
      { from: "i32", to: "i32", step: "i32" },
      "i32",
      ({ from, to, step }, body) => {
        const times = body.local(i32.const(0));
        body.for(from, to, step, () => times.set(i32.add(times, 1)));
        body.return(times);
      },
    );
    const env = { memory: new WebAssembly.Memory({ initial: 1, maximum: 1 }) };
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.toBytes()), { env });
    const count = exports.count as (from: number, to: number, step: number) => number;
    expect([
      count(0, 5, 1),
      count(0, 5, 2),
      count(3, 3, 1),
      count(4, 3, 1),
      count(-2, 2, 4),
    ]).toEqual([5, 3, 0, 0, 1]);
  });
});
