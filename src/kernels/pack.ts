import { i32, integers } from "../codegen/wasm/builder.ts";
import type { Expr, Local, WasmModule } from "../codegen/wasm/builder.ts";
import { integerFormats, type Field } from "../quant/blocks.ts";
import { blockBytes, layouts, type IntegerLayout } from "../quant/compute-layout.ts";
import { isFloat, type FormatName } from "../quant/formats.ts";

/** Adds a program to a module; the file's bytes lie in memory 0, the group in `memory`. */
type EmitPack = (module: WasmModule, name: string, memory: number) => void;

/**
 * What packs one row of `blocks` blocks of a file into row `row` (0 … 7) of a group at `to`, as `packGroup` of quant/repack.ts
 * defines it, about ten times as fast; undefined for formats whose quants are not simple.
 */
export function packerOf(format: FormatName): EmitPack | undefined {
  const layout = layouts[format];
  if (isFloat(format) || layout.kind === "float") return undefined;
  const { bytes, simple, minimum } = integerFormats[format];
  if (simple === undefined) return undefined;
  const place = blockBytes(layout);
  return (module, name, memory) =>
    module.func(name, integers("from to row blocks"), "void", (p, body) => {
      const scales = body.local(i32.add(p.to, i32.shl(p.row, 1)));
      const lane = body.local(i32.add(p.to, i32.shl(p.row, 2)));
      body.for(0, p.blocks, 1, () => {
        body.emit(i32.store16(scales, i32.load16_u(p.from), 0, memory));
        if (minimum) body.emit(i32.store16(scales, i32.load16_u(p.from, 2), 16, memory));
        for (let step = 0; step < layout.bits; step++) {
          const word = stepOf(layout, (index) => quantsAt(p.from, simple.low, index), step);
          const stored = simple.flip === 0 ? word : i32.xor(word, simple.flip);
          body.emit(i32.store(lane, stored, place.header + 32 * step, memory));
        }
        p.from.set(i32.add(p.from, bytes));
        for (const at of [scales, lane]) at.set(i32.add(at, place.block));
      });
    });
}

type Quants = (index: number) => Expr<"i32">;

/** Quants of 4 columns of 8 bits, or of 8 columns of 4 bits. */
const stepOf = ({ bits }: IntegerLayout, quants: Quants, step: number): Expr<"i32"> =>
  bits === 8 ? quants(step) : i32.or(quants(2 * step), i32.shl(quants(2 * step + 1), 4));

/** Quants 4 × index … 4 × index + 3 of a block, a byte each. */
function quantsAt(from: Local<"i32">, [first, bits, run]: Field, index: number): Expr<"i32"> {
  const [part, byte] = [Math.floor((4 * index) / run), (4 * index) % run];
  const runs = Math.floor((part * bits) / 8);
  const shifted = i32.shr_u(i32.load(from, first + runs * run + byte), (part * bits) % 8);
  return bits === 8 ? shifted : i32.and(shifted, ((1 << bits) - 1) * 0x01010101);
}
