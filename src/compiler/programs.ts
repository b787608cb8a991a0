import { WasmModule, type MemoryLimits } from "../codegen/wasm/module.ts";

/** The programs of a model, each emitted once, in one WebAssembly module. */
export class ProgramSet {
  readonly module: WasmModule;
  readonly #names = new Set<string>();
  #scratch = 0;

  constructor(memory: MemoryLimits) {
    this.module = new WasmModule({ memory });
  }

  add(name: string, emit: (module: WasmModule, name: string) => void): string {
    if (this.#names.has(name)) return name;
    this.#names.add(name);
    emit(this.module, name);
    return name;
  }

  needScratch(bytes: number): void {
    this.#scratch = Math.max(this.#scratch, bytes);
  }

  get scratchBytes(): number {
    return this.#scratch;
  }

  list(): string[] {
    return [...this.#names];
  }
}
