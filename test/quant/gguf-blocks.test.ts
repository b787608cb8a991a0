import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  dequantize,
  formatBytes,
  formats,
  isFloat,
  type FormatName,
} from "../../src/quant/formats.ts";

interface Golden {
  readonly type: string;
  readonly ggml_type: number;
  readonly block_size: number;
  readonly type_size: number;
  readonly elements: number;
  readonly optional: boolean;
}
const folder = new URL("../goldens/gguf-blocks/", import.meta.url);
const read = (file: string): Uint8Array => Uint8Array.from(readFileSync(new URL(file, folder)));
const goldens = (JSON.parse(new TextDecoder().decode(read("index.json"))) as Golden[]).filter(
  ({ type, optional }) => !optional || type.startsWith("IQ4"),
);

describe("weight formats", () => {
  for (const { type, ggml_type, block_size, type_size, elements } of goldens) {
    const name = type.toLowerCase() as FormatName;
    it(`${type} decodes to the bit as ggml does`, () => {
      const expected = new Float32Array(read(`${type}.f32`).buffer);
      const out = new Float32Array(elements);
      dequantize(name, read(`${type}.bin`), out);
      expect(out.findIndex((value, at) => !Object.is(value, expected[at]))).toBe(-1);
    });

    it(`${type} has the number and the sizes of GGUF`, () => {
      const sizes = { ggmlType: ggml_type, block: block_size, bytes: type_size };
      expect(formats[name]).toMatchObject(sizes);
      expect(isFloat(name)).toBe(block_size === 1);
    });
  }

  it("are all in the goldens", () => {
    expect(Object.keys(formats).toSorted()).toEqual(
      goldens.map(({ type }) => type.toLowerCase()).toSorted(),
    );
  });

  it("come in whole blocks", () => {
    expect(formatBytes("q4_0", 64)).toBe(36);
    expect(() => formatBytes("q4_k", 128)).toThrow(
      "q4_k stores whole blocks of 256 weights, got 128",
    );
  });
});
