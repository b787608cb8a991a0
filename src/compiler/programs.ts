import { WasmModule, type MemoryLimits } from "../codegen/wasm/module.ts";
import { emitSupport } from "../kernels/support.ts";

/** The programs of a model, each emitted once, in one WebAssembly module, beside those that the device needs. */
export class ProgramSet {
  readonly module: WasmModule;
  readonly names: Set<string> = new Set();
  scratchBytes = 0;

  constructor(memory: MemoryLimits) {
    this.module = new WasmModule({ memory });
    emitSupport(this.module);
  }

  add(name: string, emit: (module: WasmModule, name: string) => void): string {
    if (!this.names.has(name)) emit(this.module, name);
    this.names.add(name);
    return name;
  }

  needScratch(bytes: number): void {
    this.scratchBytes = Math.max(this.scratchBytes, bytes);
  }
}
