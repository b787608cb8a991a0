import { describe, expect, it } from "vitest";
import { ParallelDecoder } from "../../examples/parallel-decoder.ts";
import { MistralConfig } from "../../src/models/mistral/config.ts";
import { MistralForCausalLM } from "../../src/models/mistral/model.ts";
import { sourcesOf, type Module } from "../../src/nn/module.ts";
import type { ModuleSpec } from "../../src/nn/spec.ts";
import { trace } from "../../src/nn/trace.ts";
import type { FormatName } from "../../src/quant/formats.ts";
import { layoutOf } from "./cache-steps.ts";
import { compileModel, Reference, Wasm } from "./harness.ts";
import type { Model, ThreadOrder, WeightData } from "./harness.ts";
import { randomFloats, randomPart, vector } from "./random.ts";
import { machine } from "./targets.ts";

const mostRows = 24;

function modelFor(module: Module & { getDefaultSpec(): ModuleSpec }, format: FormatName): Model {
  const rows = { min: 1, max: mostRows };
  const graphs = trace(module, module.getDefaultSpec(), { seq_len: rows, batch_size: rows });
  const weights = [...module.namedParameters()].map(([name, parameter], at): WeightData => {
    const [rows, columns] = parameter.shape;
    const near1 = () => randomFloats(rows, at).map((value) => 1 + value / 20);
    if (parameter.shape.length === 1) return vector(name, near1());
    const parts = sourcesOf(name, parameter).map(({ rows }, part) =>
      randomPart(format, rows, columns, 10 * at + part),
    );
    return { name, parts };
  });
  return { graphs, weights, digits: 2, pages: 8, maxKeys: 128 };
}

const sizes = { vocab: 70, hidden: 64, inner: 96, layers: 2, heads: 4, kvHeads: 2, headDim: 16 };
const config = MistralConfig.parse({
  hidden_size: 64,
  intermediate_size: 96,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 10,
  num_hidden_layers: 2,
  rms_norm_eps: 1e-5,
  vocab_size: 70,
  context_window_size: 128,
});
const decoders = {
  "the parallel decoder of the examples": (format: FormatName) =>
    modelFor(new ParallelDecoder(sizes), format),
  // 4 heads of 10 give o_proj 40 columns, so integers do not fit
  "Mistral with 4 heads of 10": () => modelFor(new MistralForCausalLM(config), "f16"),
  "Mistral with 4 heads of 16": (format: FormatName) =>
    modelFor(new MistralForCausalLM(MistralConfig.parse({ ...config, head_dim: 16 })), format),
};

const ids = Int32Array.from({ length: mostRows }, (_, at) => (7 * at + 3) % sizes.vocab);
const sequence = { pages: [5, 2] };

/** Logits of all ids, in steps of so many rows. */
function logitsOf(device: Pick<Wasm, "run">, chunk: number): Float32Array {
  const logits: number[] = [];
  for (let start = 0; start < mostRows; start += chunk) {
    const count = Math.min(chunk, mostRows - start);
    const sizes = { seq_len: count, batch_size: count };
    const { embeddings } = device.run("embed", {
      sizes,
      inputs: { ids: ids.slice(start, start + count) },
    });
    const inputs = {
      embeddings,
      logit_positions: Int32Array.from({ length: count }, (_, row) => row),
    };
    const step = layoutOf([{ sequence, start, count }]);
    logits.push(...device.run("batch_prefill", { sizes, inputs, step }).logits);
  }
  return Float32Array.from(logits);
}

for (const [name, make] of Object.entries(decoders))
  for (const format of ["f32", "q8_0", "q4_1"] as const)
    describe(`${name}, ${format} weights`, () => {
      const model = make(format);
      const whole = logitsOf(new Wasm(model, machine), mostRows);

      it("agrees with the interpreter", () => {
        const expected = logitsOf(new Reference(model), mostRows);
        const largest = expected.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
        const worst = whole.reduce((a, b, at) => Math.max(a, Math.abs(b - expected[at])), 0);
        expect(worst / largest).toBeLessThan(format === "f32" ? 1e-5 : 1e-3);
      });

      it("has the same bits in chunks and on several threads, whichever runs ahead", () => {
        for (const chunk of [1, 7])
          expect(logitsOf(new Wasm(model, machine), chunk)).toEqual(whole);
        for (const threads of [2, 3])
          for (const order of ["first ahead", "last ahead"] as const satisfies ThreadOrder[])
            for (const chunk of [1, 2, mostRows])
              expect(
                logitsOf(new Wasm(model, machine, threads, order), chunk),
                `${threads} threads, ${order}`,
              ).toEqual(whole);
      });
    });

describe("one row", () => {
  it("takes seven steps a layer: threads make, round and gate for themselves what they can", () => {
    const model = decoders["Mistral with 4 heads of 16"]("q4_1");
    const { functions } = compileModel(model, machine.features).plan;
    const steps = functions.find(({ name }) => name === "batch_prefill")?.steps ?? [];
    const inLayers = steps.filter(
      ({ variants: [few], name }) => few.calls.length > 0 && !/^take|lm_head/.test(name),
    );
    expect(inLayers.length).toBe(7 * config.num_hidden_layers);
  });
});
