/** What this machine gives to WebAssembly: bytes a second from memory, and int8 multiply-adds a second in registers. */
import { measureRoofs as measure } from "../../src/devices/wasm/roofs.ts";

export interface Roofs {
  readonly threads: number;
  readonly gigabytes: number;
  readonly gigamacs: number;
}

export async function measureRoofs(threads: number): Promise<Roofs> {
  const { bytesPerSecond, macsPerSecond } = await measure(threads);
  return { threads, gigabytes: bytesPerSecond / 1e9, gigamacs: macsPerSecond / 1e9 };
}
