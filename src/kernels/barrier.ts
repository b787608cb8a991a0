import { i32, integers, memory, type WasmModule } from "../codegen/wasm/builder.ts";
import { controlWords } from "../plan/plan.ts";

/** How many looks at the counter before a thread goes to sleep: some tens of microseconds. */
const spins = 20_000;

/**
 * A program for all threads, each of which goes on when all have come. Two words: how many threads have arrived, and how many times
 * all have. The last to arrive puts the tickets back to 0, starts the next round and wakes those that sleep.
 */
export function emitBarrier(module: WasmModule): void {
  module.func("barrier", integers("threads"), "void", ({ threads }, body) => {
    const state = body.local(i32.const(controlWords.barrier));
    const round = body.local(i32["atomic.load"](state, 4));
    const arrived = body.local(i32.add(i32["atomic.rmw.add"](state, 1), 1));
    body.if(
      i32.eq(arrived, threads),
      () => {
        body.emit(i32["atomic.store"](controlWords.tickets, 0));
        body.emit(i32["atomic.store"](state, 0));
        body.emit(i32["atomic.store"](state, i32.add(round, 1), 4));
        body.drop(memory["atomic.notify"](state, threads, 4));
      },
      () => {
        const left = body.local(i32.const(spins));
        const waiting = i32.eq(i32["atomic.load"](state, 4), round);
        body.while(i32.and(waiting, i32.gt_s(left, 0)), () => left.set(i32.sub(left, 1)));
        body.while(waiting, () => body.drop(memory["atomic.wait32"](state, round, -1, 4)));
      },
    );
  });
}
