import { f16Table } from "../../base/half.ts";
import type { CacheRows } from "../../ir/graph.ts";
import { kvGroup, pagePlace, pageTokens, type PageShape } from "../../quant/kv-page.ts";

/** Keys and values of some slots of one layer, out of pages as quant/kv-page.ts lays them out, as f32. */
export function readSlots(
  memory: WebAssembly.Memory,
  layerAt: number,
  shape: PageShape,
  slots: Int32Array,
): CacheRows {
  const { kvHeads, headDim } = shape;
  const place = pagePlace(shape);
  const view = new DataView(memory.buffer);
  const read = {
    f32: (at: number) => view.getFloat32(at, true),
    f16: (at: number) => f16Table[view.getUint16(at, true)],
    q8: (at: number, scale: number) => view.getInt8(at) * view.getFloat32(scale, true),
  }[shape.kv];
  const keys = new Float32Array(slots.length * kvHeads * headDim);
  const values = new Float32Array(keys.length);
  for (let to = 0; to < keys.length; to++) {
    const slot = slots[Math.floor(to / headDim / kvHeads)];
    const page = layerAt + Math.floor(slot / pageTokens) * place.pageBytes;
    const head = page + (Math.floor(to / headDim) % kvHeads) * place.headBytes;
    const [token, d] = [slot % pageTokens, to % headDim];
    const group = Math.floor(d / kvGroup);
    const key = head + (d * pageTokens + token) * place.element;
    keys[to] = read(key, head + place.keyScales + 4 * (group * pageTokens + token));
    const value = head + place.values + (token * headDim + d) * place.element;
    values[to] = read(value, head + place.valueScales + 4 * (token * place.groups + group));
  }
  return { keys, values };
}
