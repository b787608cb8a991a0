import { i16x8, i32x4, v128, WasmModule } from "../../codegen/wasm/builder.ts";
import type { Expr } from "../../codegen/wasm/builder.ts";
import type { WasmFeatures, WideKind } from "../../codegen/wasm/features.ts";

/** What the probe found, for `inspect`. */
export interface ProbeReport extends WasmFeatures {
  readonly reasons: readonly string[];
}

type V128 = Expr<"v128">;
const zero = i32x4.const([0, 0, 0, 0]);

const dots: Readonly<Record<"relaxed" | "pairs", (x: V128, w: V128) => V128>> = {
  relaxed: (x, w) => i32x4.relaxed_dot_i8x16_i7x16_add_s(x, w, zero),
  pairs: (x, w) => i32x4.extadd_pairwise_i16x8_s(i16x8.relaxed_dot_i8x16_i7x16_s(x, w)),
};

interface Probe {
  readonly dot: (x: number, w: number, y: number) => void;
  readonly memory: WebAssembly.Memory;
}

/** One dot of two vectors in memory; undefined where the engine does not know the instruction. */
function instantiate(kind: keyof typeof dots): Probe | undefined {
  const module = new WasmModule({ memory: { initial: 1, maximum: 1, shared: false } });
  module.func("dot", { x: "i32", w: "i32", y: "i32" }, "void", ({ x, w, y }, body) =>
    body.emit(v128.store(y, dots[kind](v128.load(x), v128.load(w)))),
  );
  const bytes = module.toBytes();
  if (!WebAssembly.validate(bytes)) return undefined;
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } });
  return { dot: exports.dot as Probe["dot"], memory };
}

type Operand = "seven-bit" | "unsigned" | "signed";
/** Vectors tried: so many of extremes, and 7 times as many random ones, by when the function is hot. */
const vectors = 256;

/** Whether the dots of random vectors and of the extremes are exact, the second operand read as `operand` says. */
function isExact({ dot, memory }: Probe, operand: Operand): boolean {
  const bytes = new Uint8Array(memory.buffer);
  const out = new Int32Array(memory.buffer, 32, 4);
  const mask = operand === "seven-bit" ? 127 : 255;
  let seed = 1;
  const random = (): number => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return seed >>> 24;
  };
  for (let n = 0; n < vectors * 8; n++) {
    const extreme = n < vectors;
    for (let i = 0; i < 16; i++) {
      bytes[i] = extreme ? (random() & 1 ? 127 : 128) : random();
      bytes[16 + i] = (extreme ? (random() & 1 ? 255 : 128) : random()) & mask;
    }
    dot(0, 16, 32);
    for (let lane = 0; lane < 4; lane++) {
      let exact = 0;
      for (let i = 4 * lane; i < 4 * lane + 4; i++) {
        const w = operand === "signed" ? (bytes[16 + i] << 24) >> 24 : bytes[16 + i];
        exact += ((bytes[i] << 24) >> 24) * w;
      }
      if (out[lane] !== exact) return false;
    }
  }
  return true;
}

/**
 * Asks this engine on this machine which dot instructions are exact. Where the 32-bit dot saturates on 8-bit operands it is
 * made of 16-bit pairs there (x86 without VNNI), so that summing the pairs oneself saves an instruction a step. Takes some
 * milliseconds.
 */
export function probeFeatures(): ProbeReport {
  const relaxed = instantiate("relaxed");
  if (relaxed === undefined) return plain("relaxed SIMD is not there");
  if (!isExact(relaxed, "seven-bit"))
    return plain("the relaxed dot gives wrong results for 7-bit operands on this engine");
  const wide: WideKind = isExact(relaxed, "unsigned")
    ? "unsigned"
    : isExact(relaxed, "signed")
      ? "signed"
      : "halves";
  const reason = `the relaxed dot is exact for 7-bit operands; 8-bit operands: ${wide}`;
  const pairs = instantiate("pairs");
  if (wide !== "halves" || pairs === undefined || !isExact(pairs, "seven-bit"))
    return { dot: "relaxed", wide, reasons: [reason] };
  return {
    dot: "pairs",
    wide,
    reasons: [reason, "so it is made of 16-bit pairs here, which are summed as such"],
  };
}

const plain = (reason: string): ProbeReport => ({
  dot: "extended",
  wide: "halves",
  reasons: [reason],
});
