import { f32, f32x4, i32, memory, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Local } from "../../codegen/wasm/builder.ts";
import { expF32x4 } from "../../codegen/wasm/math.ts";
import { groupOf, hiddenScore, type AttendSpec } from "./attend-page.ts";
import { forQuads, storeLanes } from "./pages.ts";

/** Running (o, m, l) of the heads of a group: o is the row of y, m and l [group] each are at `state`. */
export interface MergePlace {
  readonly y: Local<"i32">;
  readonly state: Local<"i32">;
}
export const stateBytes = (spec: AttendSpec): number => 8 * groupOf(spec);

export function startMerge(body: Body, spec: AttendSpec, { y, state }: MergePlace): void {
  const group = groupOf(spec);
  body.emit(memory.fill(y, 0, group * spec.headDim * 4));
  for (let g = 0; g < group; g++) {
    body.emit(f32.store(state, f32.const(hiddenScore), 4 * g));
    body.emit(f32.store(state, f32.const(0), 4 * (group + g)));
  }
}

/** (o, m, l) of y and of a record, both brought to the larger m, added. */
export function emitMerge(
  body: Body,
  spec: AttendSpec,
  record: Local<"i32">,
  { y, state }: MergePlace,
): void {
  const head = spec.headDim * 4;
  const group = groupOf(spec);
  for (let g = 0; g < group; g++) {
    const [mAt, lAt] = [4 * g, 4 * (group + g)];
    const m = body.local(f32.load(state, mAt));
    const theirs = body.local(f32.load(record, group * head + mAt));
    const most = body.local(f32.max(m, theirs));
    const differences = f32x4.replace_lane(f32x4.splat(f32.sub(m, most)), f32.sub(theirs, most), 1);
    const factors = expF32x4(body, differences);
    const [mine, their] = [0, 1].map((lane) => body.local(f32x4.extract_lane(factors, lane)));
    body.emit(f32.store(state, most, mAt));
    const length = f32.mul(f32.load(record, group * head + lAt), their);
    body.emit(f32.store(state, f32.add(f32.mul(f32.load(state, lAt), mine), length), lAt));
    const [mines, theirsAll] = [body.local(f32x4.splat(mine)), body.local(f32x4.splat(their))];
    forQuads(body, spec.headDim, (at, lanes) => {
      const to = body.local(i32.add(y, at));
      const kept = f32x4.mul(v128.load(to, g * head), mines);
      const added = f32x4.mul(v128.load(i32.add(record, at), g * head), theirsAll);
      body.emit(storeLanes(lanes, to, f32x4.add(kept, added), g * head));
    });
  }
}

export function finishMerge(body: Body, spec: AttendSpec, { y, state }: MergePlace): void {
  const head = spec.headDim * 4;
  for (let g = 0; g < groupOf(spec); g++) {
    const length = f32.load(state, 4 * (groupOf(spec) + g));
    const inverse = body.local(f32x4.splat(f32.div(f32.const(1), length)));
    forQuads(body, spec.headDim, (at, lanes) => {
      const to = body.local(i32.add(y, at));
      body.emit(storeLanes(lanes, to, f32x4.mul(v128.load(to, g * head), inverse), g * head));
    });
  }
}
