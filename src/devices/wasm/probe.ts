import { i16x8, i32, i32x4, v128, WasmModule } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, Local } from "../../codegen/wasm/builder.ts";
import type { DotKind, WasmFeatures, WideKind } from "../../codegen/wasm/features.ts";

/** What the probe found, for `inspect`. */
export interface ProbeReport extends WasmFeatures {
  readonly reasons: readonly string[];
}

const limits = { initial: 1, maximum: 1, shared: false } as const;
const vectors = 256;
const zero = i32x4.const([0, 0, 0, 0]);
type Dot = (x: Expr<"v128">, w: Expr<"v128">, sum: Expr<"v128">) => Expr<"v128">;

const dots: Readonly<Record<"relaxed" | "pairs", Dot>> = {
  relaxed: (x, w, sum) => i32x4.relaxed_dot_i8x16_i7x16_add_s(x, w, sum),
  pairs: (x, w, sum) =>
    i32x4.add(sum, i32x4.extadd_pairwise_i16x8_s(i16x8.relaxed_dot_i8x16_i7x16_s(x, w))),
};

/** `single`: one dot of two vectors in memory; `timed`: 8 chains of many dots, as a mat-vec has them. */
function probeModule(kind: "relaxed" | "pairs"): Uint8Array<ArrayBuffer> {
  const module = new WasmModule({ memory: limits });
  module.func("single", { x: "i32", w: "i32", y: "i32" }, "void", ({ x, w, y }, body) =>
    body.emit(v128.store(y, dots[kind](v128.load(x), v128.load(w), zero))),
  );
  module.func("timed", { rounds: "i32" }, "i32", ({ rounds }, body) => {
    const sums = Array.from({ length: 8 }, () => body.local("v128"));
    body.for(0, rounds, 1, () => (kind === "relaxed" ? relaxedRound : pairsRound)(body, sums));
    const total = sums.reduce<Expr<"v128">>((a, b) => i32x4.add(a, b), zero);
    body.return(i32x4.extract_lane(total, 0));
  });
  return module.toBytes();
}

/** 8 steps of a block of 4-bit quants, both ways. */
function relaxedRound(body: Body, sums: readonly Local<"v128">[]): void {
  for (let step = 0; step < 8; step++) {
    const x = body.local(v128.load32_splat(i32.const(4 * step)));
    sums.forEach((sum, at) => sum.set(dots.relaxed(x, v128.load(i32.const(16 * at)), sum)));
  }
}

function pairsRound(body: Body, sums: readonly Local<"v128">[]): void {
  const pairs = sums.map(() => body.local("v128"));
  for (let step = 0; step < 8; step++) {
    const x = body.local(v128.load32_splat(i32.const(4 * step)));
    pairs.forEach((pair, at) => {
      const dot = i16x8.relaxed_dot_i8x16_i7x16_s(x, v128.load(i32.const(16 * at)));
      pair.set(step === 0 ? dot : i16x8.add(pair, dot));
    });
  }
  sums.forEach((sum, at) => sum.set(i32x4.add(sum, i32x4.extadd_pairwise_i16x8_s(pairs[at]))));
}

interface ProbeExports {
  single(x: number, w: number, y: number): void;
  timed(rounds: number): number;
}

function instantiate(
  kind: "relaxed" | "pairs",
): { exports: ProbeExports; memory: WebAssembly.Memory } | undefined {
  const bytes = probeModule(kind);
  if (!WebAssembly.validate(bytes)) return undefined;
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } });
  return { exports: exports as unknown as ProbeExports, memory };
}

type Operand = "seven-bit" | "unsigned" | "signed";

/** Whether `single` gives the exact dots of random vectors and of the extremes, read as `operand` says, also once it is hot. */
function isExact(probe: NonNullable<ReturnType<typeof instantiate>>, operand: Operand): boolean {
  const bytes = new Uint8Array(probe.memory.buffer);
  const out = new Int32Array(probe.memory.buffer, 32, 4);
  const mask = operand === "seven-bit" ? 127 : 255;
  let seed = 1;
  const random = (): number => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return seed >>> 24;
  };
  for (let n = 0; n < vectors * 8; n++) {
    const extreme = n < vectors;
    for (let i = 0; i < 16; i++) {
      bytes[i] = extreme ? (random() & 1 ? 127 : 129) : random() || 1;
      if (bytes[i] === 128) bytes[i] = 129; // activations lie in −127 … 127
      bytes[16 + i] = (extreme ? (random() & 1 ? 255 : 128) : random()) & mask;
    }
    probe.exports.single(0, 16, 32);
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

/** Milliseconds of some rounds, the best of a few tries. */
function timeOf({ exports }: NonNullable<ReturnType<typeof instantiate>>): number {
  let best = Infinity;
  for (let tries = 0; tries < 6; tries++) {
    const start = performance.now();
    exports.timed(20_000);
    best = Math.min(best, performance.now() - start);
  }
  return best;
}

/** Asks this engine on this machine which dot instructions are exact, and which is faster. Takes some milliseconds. */
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
  const reasons = [`the relaxed dot is exact for 7-bit operands; 8-bit operands: ${wide}`];
  const pairs = instantiate("pairs");
  if (pairs === undefined || !isExact(pairs, "seven-bit")) return { dot: "relaxed", wide, reasons };
  const [a, b] = [timeOf(relaxed), timeOf(pairs)];
  const dot: DotKind = b < 0.95 * a ? "pairs" : "relaxed";
  return {
    dot,
    wide,
    reasons: [...reasons, `relaxed ${a.toFixed(2)} ms, pairs ${b.toFixed(2)} ms: ${dot}`],
  };
}

const plain = (reason: string): ProbeReport => ({
  dot: "extended",
  wide: "halves",
  reasons: [reason],
});
