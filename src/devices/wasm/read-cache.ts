import { f16Table } from "../../base/half.ts";
import { kvGroup, pagePlace, pageTokens, type PageShape } from "../../quant/kv-page.ts";
import type { CacheRows } from "../device.ts";

/** Keys and values of some slots of one layer, out of pages as quant/kv-page.ts lays them out, as f32. */
export function readSlots(
  memory: WebAssembly.Memory,
  layerAt: number,
  shape: PageShape,
  slots: Int32Array,
): CacheRows {
  const { kv, kvHeads, headDim } = shape;
  const place = pagePlace(shape);
  const view = new DataView(memory.buffer);
  /** Element `index` of the plane at `plane`, with scale number `scale` of those at `scales`. */
  const element = (plane: number, index: number, scales: number, scale: number): number => {
    const at = plane + index * place.element;
    switch (kv) {
      case "f32":
        return view.getFloat32(at, true);
      case "f16":
        return f16Table[view.getUint16(at, true)];
      case "q8":
        return view.getInt8(at) * view.getFloat32(scales + 4 * scale, true);
      default:
        return kv satisfies never;
    }
  };
  const keys = new Float32Array(slots.length * kvHeads * headDim);
  const values = new Float32Array(keys.length);
  for (let to = 0; to < keys.length; to++) {
    const d = to % headDim;
    const head = Math.floor(to / headDim) % kvHeads;
    const slot = slots[Math.floor(to / headDim / kvHeads)];
    const token = slot % pageTokens;
    const at = layerAt + Math.floor(slot / pageTokens) * place.pageBytes + head * place.headBytes;
    const group = Math.floor(d / kvGroup);
    const keyScale = group * pageTokens + token;
    const valueScale = token * place.groups + group;
    keys[to] = element(at, d * pageTokens + token, at + place.keyScales, keyScale);
    const plane = at + place.values;
    values[to] = element(plane, token * headDim + d, at + place.valueScales, valueScale);
  }
  return { keys, values };
}
