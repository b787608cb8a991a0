import { f16Table } from "../../base/half.ts";

import type { CacheRows } from "../device.ts";
import { kvGroup, pagePlace, pageTokens, type PageShape } from "../../quant/kv-page.ts";

/** Keys and values of some slots of one layer, out of pages as kernels/attention/pages.ts lays them out, as f32. */
export function readSlots(
  memory: WebAssembly.Memory,
  layerAt: number,
  shape: PageShape,
  slots: Int32Array,
): CacheRows {
  const { kvHeads, headDim } = shape;
  const keys = new Float32Array(slots.length * kvHeads * headDim);
  const values = new Float32Array(keys.length);
  const view = new DataView(memory.buffer);
  const { headBytes, pageBytes } = pagePlace(shape);
  slots.forEach((slot, row) => {
    const page = layerAt + Math.floor(slot / pageTokens) * pageBytes;
    for (let head = 0; head < kvHeads; head++) {
      const at = page + head * headBytes;
      for (let d = 0; d < headDim; d++) {
        const to = (row * kvHeads + head) * headDim + d;
        keys[to] = elementAt(view, shape, at, "keys", slot % pageTokens, d);
        values[to] = elementAt(view, shape, at, "values", slot % pageTokens, d);
      }
    }
  });
  return { keys, values };
}

function elementAt(
  view: DataView,
  shape: PageShape,
  head: number,
  part: "keys" | "values",
  token: number,
  d: number,
): number {
  const place = pagePlace(shape);
  const isKey = part === "keys";
  const index = isKey ? d * pageTokens + token : token * shape.headDim + d;
  const at = head + (isKey ? 0 : place.values) + index * place.element;
  switch (shape.kv) {
    case "f32":
      return view.getFloat32(at, true);
    case "f16":
      return f16Table[view.getUint16(at, true)];
    case "q8": {
      const group = Math.floor(d / kvGroup);
      const scale = isKey ? group * pageTokens + token : token * place.groups + group;
      const scales = head + (isKey ? place.keyScales : place.valueScales);
      return view.getInt8(at) * view.getFloat32(scales + 4 * scale, true);
    }
    default:
      return shape.kv satisfies never;
  }
}
