import { expect, it } from "vitest";
import { compile } from "../../src/compiler/compile.ts";
import { WasmModel } from "../../src/devices/wasm/device.ts";
import { importedMemory } from "../../src/devices/wasm/memory-map.ts";
import { CompiledModel, prepare } from "../../src/index.ts";
import { trace } from "../../src/nn/trace.ts";
import { machine } from "../conformance/targets.ts";
import { goldenPath } from "../golden/cases.ts";

const rooms = {
  "the first": { besideRest: 2 ** 31, alone: 2 ** 31 },
  "a second": { besideRest: 0, alone: 2 ** 31 },
  several: { besideRest: 0, alone: 40_000 },
};

for (const file of ["gguf/model-q4_0.gguf", "gguf/model-q8_0.gguf", "gqa"])
  it(`${file}: weights in further memories give the same bits`, async () => {
    await using prepared = await prepare(goldenPath("mistral-tiny", file), { chunk: 32 });
    const { embed, batch_prefill } = prepared.module.getDefaultSpec();
    const rows = { min: 1, max: 32 };
    const sizes = { seq_len: rows, batch_size: rows };
    const graphs = trace(prepared.module, { embed, batch_prefill }, sizes);
    const found: Float32Array[] = [];
    const memories: number[] = [];
    for (const room of Object.values(rooms)) {
      const { plan } = compile({
        graphs,
        weights: new Map(prepared.weights.map(({ name, segments }) => [name, segments])),
        precision: { kv: "f32", digits: 1 },
        features: { ...machine.features, revectorize: true },
        maxKeys: 64,
        memory: importedMemory,
        room,
      });
      const settings = { threads: 2, cacheTokens: 0, revectorize: true };
      const device = await WasmModel.create(plan, { ...settings, sources: prepared.weights });
      const { vocab_size: vocab, hidden_size: hidden } = prepared.config;
      const shape = { hidden, vocab, layers: plan.cache?.layers ?? 0, pageTokens: 16, maxRows: 32 };
      await using model = new CompiledModel(device, shape);
      using cache = await model.create_paged_kv_cache({ max_batch_size: 1, max_total_seq_len: 64 });
      cache.add(0);
      const tokens = [1, 5, 9, 2, 7];
      found.push(await model.forward(cache, [{ id: 0, tokens }], "all"));
      found.push(await model.forward(cache, [{ id: 0, tokens: [3] }], "last"));
      memories.push(plan.weightBytes.length);
    }
    expect(memories.slice(0, 2)).toEqual([1, 2]);
    expect(memories[2]).toBeGreaterThan(2);
    for (const [at, logits] of found.entries()) expect(logits).toEqual(found[at % 2]);
  });
