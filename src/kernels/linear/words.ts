import { i16x8, i32, i8x16, integers, v128 } from "../../codegen/wasm/builder.ts";
import type { FuncRef, WasmModule } from "../../codegen/wasm/builder.ts";
import { planOf, type LinearSpec } from "./block.ts";
import { inputShape } from "./dot.ts";

/**
 * A program's function, where words are multiplied, that makes `count` values of x, whole blocks, words: both digits in one, of 4 columns first the even, then
 * the odd ones, as `dotOperands` has the quants.
 */
export function emitWords(
  module: WasmModule,
  name: string,
  spec: LinearSpec,
): FuncRef<"void"> | undefined {
  const { digits } = spec;
  if (inputShape(planOf(spec), digits).valueBytes === 1) return undefined;
  const order = [0, 2, 1, 3, 4, 6, 5, 7].flatMap((word) => [2 * word, 2 * word + 1]);
  return module.func(
    name,
    integers("high low words count"),
    "void",
    ({ high, low, words, count }, body) =>
      body.for(0, count, 8, (at) => {
        const [highs, lows] = [high, low].map((from) => v128.load8x8_s(i32.add(from, at)));
        const values = body.local(digits === 2 ? i16x8.add(i16x8.shl(highs, 8), lows) : highs);
        const sorted = i8x16.shuffle(values, values, order);
        body.emit(v128.store(i32.add(words, i32.shl(at, 1)), sorted));
      }),
    { export: false },
  );
}
