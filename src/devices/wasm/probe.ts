import { i16x8, i32x4, v128, WasmModule, type V128 } from "../../codegen/wasm/builder.ts";
import type { WasmFeatures, WideKind } from "../../codegen/wasm/features.ts";
import { compileOptimised, tryRevectorize } from "./v8.ts";

/** What the probe found, for `inspect`. */
export interface ProbeReport extends WasmFeatures {
  readonly reasons: readonly string[];
}

const zero = i32x4.const(0);
const relaxedDot = (x: V128, w: V128): V128 => i32x4.relaxed_dot_i8x16_i7x16_add_s(x, w, zero);
const pairsDot = (x: V128, w: V128): V128 =>
  i32x4.extadd_pairwise_i16x8_s(i16x8.relaxed_dot_i8x16_i7x16_s(x, w));

type Operand = "seven-bit" | "unsigned" | "signed";
/** Vectors tried: so many of extremes, and three times as many random ones. */
const vectors = 64;

/** A test whether dots are exact, the second operand read as it says; undefined where the engine has no such instruction. */
function prober(dot: (x: V128, w: V128) => V128): ((operand: Operand) => boolean) | undefined {
  const limits = { initial: 1, maximum: 1 };
  const module = new WasmModule({ memory: { ...limits, shared: false } });
  module.func("dot", {}, "void", (_, body) =>
    body.emit(v128.store(32, dot(v128.load(0), v128.load(16)))),
  );
  const code = module.toBytes();
  if (!WebAssembly.validate(code)) return undefined;
  const memory = new WebAssembly.Memory(limits);
  const compiled = compileOptimised(code, false);
  const { exports } = new WebAssembly.Instance(compiled, { env: { memory } });
  return (operand) => isExact(exports.dot as () => void, memory.buffer, operand);
}

/** Tries random vectors and the extremes: `dot` multiplies those at 0 and 16; its four sums are at 32. */
function isExact(dot: () => void, memory: ArrayBuffer, operand: Operand): boolean {
  const x = new Int8Array(memory, 0, 16);
  const w = new (operand === "signed" ? Int8Array : Uint8Array)(memory, 16, 16);
  const sums = new Int32Array(memory, 32, 4);
  const mask = operand === "seven-bit" ? 127 : 255;
  let seed = 1;
  const random = (): number => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return seed >>> 24;
  };
  for (let n = 0; n < vectors * 4; n++) {
    const extreme = n < vectors;
    for (let i = 0; i < 16; i++) {
      x[i] = extreme ? (random() & 1 ? 127 : 128) : random();
      w[i] = (extreme ? (random() & 1 ? 255 : 128) : random()) & mask;
    }
    dot();
    const isRight = (sum: number, lane: number): boolean =>
      sum === [0, 1, 2, 3].reduce((exact, i) => exact + x[4 * lane + i] * w[4 * lane + i], 0);
    if (!sums.every(isRight)) return false;
  }
  return true;
}

/**
 * Asks this engine on this machine which dot instructions are exact. Where the 32-bit dot saturates on 8-bit operands it is
 * made of 16-bit pairs there (x86 without VNNI), so that summing the pairs oneself saves an instruction a step. Takes some
 * milliseconds.
 */
function probeDots(): Omit<ProbeReport, "revectorize"> {
  const relaxed = prober(relaxedDot);
  if (!relaxed?.("seven-bit")) {
    const wrong = "the relaxed dot gives wrong results for 7-bit operands on this engine";
    const reason = relaxed ? wrong : "relaxed SIMD is not there";
    return { dot: "words", wide: "words", reasons: [reason] };
  }
  const wide: WideKind = (["unsigned", "signed"] as const).find(relaxed) ?? "words";
  const reason = `the relaxed dot is exact for 7-bit operands; 8-bit operands: ${wide}`;
  if (wide !== "words" || !prober(pairsDot)?.("seven-bit"))
    return { dot: "relaxed", wide, reasons: [reason] };
  const pairs = "so it is made of 16-bit pairs here, which are summed as such";
  return { dot: "pairs", wide, reasons: [reason, pairs] };
}

/** What this engine does on this machine. */
export function probeFeatures(options: { readonly mayRevectorize: boolean }): ProbeReport {
  const dots = probeDots();
  const { on, reason } = options.mayRevectorize
    ? tryRevectorize()
    : { on: false, reason: "V8's revectorisation is switched off by an option" };
  return { ...dots, revectorize: on, reasons: [...dots.reasons, reason] };
}
