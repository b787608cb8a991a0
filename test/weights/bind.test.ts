import { describe, expect, it } from "vitest";
import { MistralConfig } from "../../src/models/mistral/config.ts";
import { MistralForCausalLM } from "../../src/models/mistral/model.ts";
import { bindWeights } from "../../src/weights/bind.ts";
import { openCheckpoint } from "../../src/weights/checkpoint.ts";
import { goldenPath } from "./files.ts";

describe("tensors that do not fit the config", () => {
  async function bindWith(change: Readonly<Record<string, unknown>>): Promise<void> {
    await using checkpoint = await openCheckpoint(goldenPath("mistral-tiny/gguf/model-q4_0.gguf"));
    const config = MistralConfig.parse({ ...checkpoint.config.json, ...change });
    bindWeights(checkpoint, new MistralForCausalLM(config), { headDim: config.head_dim });
  }

  it("are named as the file names them: missing", async () => {
    await expect(bindWith({ num_hidden_layers: 3 })).rejects.toThrow(
      /blk\.2\.attn_q\.weight is missing; .*blk\.2\.ffn_norm\.weight is missing/,
    );
  });

  it("superfluous", async () => {
    await expect(bindWith({ num_hidden_layers: 1 })).rejects.toThrow(
      /blk\.1\.ffn_down\.weight is not part of the model/,
    );
  });

  it("of another shape, ten at most", async () => {
    await expect(bindWith({ intermediate_size: 128 })).rejects.toThrow(
      /blk\.0\.ffn_gate\.weight: expected \[128, 64\], got \[192, 64\]/,
    );
    await expect(bindWith({ hidden_size: 128, head_dim: 16 })).rejects.toThrow(/; and 11 more/);
  });

  it("may be left where older exporters wrote tables, or a tied head a second time", async () => {
    await using checkpoint = await openCheckpoint(goldenPath("mistral-tiny/gqa"));
    const json = { ...checkpoint.config.json, tie_word_embeddings: true };
    const config = MistralConfig.parse(json);
    const table = {
      ...checkpoint.tensors[0],
      name: "model.layers.0.self_attn.rotary_emb.inv_freq",
    };
    const tied = {
      ...checkpoint,
      config: { where: "", json },
      tensors: [...checkpoint.tensors, table],
    };
    const sources = bindWeights(tied, new MistralForCausalLM(config), { headDim: 16 });
    expect(sources.some(({ name }) => name === "lm_head.weight")).toBe(false);
  });
});
