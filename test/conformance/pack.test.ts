import { expect, it } from "vitest";
import { WasmModule } from "../../src/codegen/wasm/builder.ts";
import { emitPacker } from "../../src/kernels/pack.ts";
import { groupBytes, layouts } from "../../src/quant/compute-layout.ts";
import { formatBytes, formatNames, formats } from "../../src/quant/formats.ts";
import { randomSource } from "./random.ts";
import { packGroup } from "./repack.ts";

for (const format of formatNames)
  for (const columns of [formats[format].block, 3 * formats[format].block])
    it(`packs rows of ${columns} ${format} weights as the definition does`, () => {
      const rowBytes = formatBytes(format, columns);
      const group = groupBytes(layouts[format], columns);
      const module = new WasmModule({ memory: { initial: 1, maximum: 1, shared: false } });
      emitPacker(module, "pack", { format, memory: 0 });
      const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
      const code = new WebAssembly.Module(module.toBytes());
      const { exports } = new WebAssembly.Instance(code, { env: { memory } });
      const next = randomSource(3);
      for (const rows of [1, 7, 8]) {
        const bytes = new Uint8Array(memory.buffer, 2, rows * rowBytes);
        bytes.forEach((_, at) => (bytes[at] = Math.floor(next() * 256)));
        const rowAt = Array.from({ length: rows }, (_, row) => row * rowBytes);
        const expected = new Uint8Array(group);
        packGroup(format, columns, bytes, rowAt, expected, 0);
        const out = new Uint8Array(memory.buffer, 16384, group).fill(0);
        for (const [row, from] of rowAt.entries())
          (exports.pack as (...args: number[]) => void)(
            2 + from,
            16384,
            row,
            columns / formats[format].block,
          );
        expect([...out]).toEqual([...expected]);
      }
    });
