import { describe, expect, it } from "vitest";
import { applyPasses, passesFor } from "../../src/compiler/pipeline.ts";
import { sizeOf, symbolic } from "../../src/ir/dim.ts";
import { Capture, graphOf, Node, type Graph } from "../../src/ir/graph.ts";
import { printGraph } from "../../src/ir/print.ts";
import { verify } from "../../src/ir/verify.ts";
import { MistralConfig } from "../../src/models/mistral/config.ts";
import { MistralForCasualLM, MistralForCausalLM } from "../../src/models/mistral/model.ts";
import { Linear } from "../../src/nn/layers.ts";
import { Module, Parameter, sourcesOf } from "../../src/nn/module.ts";
import { tensorSpec } from "../../src/nn/spec.ts";
import { Tensor } from "../../src/nn/tensor.ts";
import { trace } from "../../src/nn/trace.ts";
import * as ops from "../../src/ops/index.ts";

const config = MistralConfig.parse({
  hidden_size: 64,
  intermediate_size: 96,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  num_hidden_layers: 2,
  rms_norm_eps: 1e-5,
  vocab_size: 300,
  context_window_size: 512,
});
const bounds = { seq_len: { min: 1, max: 128 }, batch_size: { min: 1, max: 8 } };
const model = new MistralForCausalLM(config);
const graphs = trace(model, model.getDefaultSpec(), bounds);
const q4 = new Map(
  [...model.namedParameters()].map(([name, { shape }]) => [
    name,
    [
      {
        format: shape.length === 1 ? "f32" : "q4_0",
        rows: shape[0],
        columns: shape[1] ?? 1,
      } as const,
    ],
  ]),
);

describe("the spec of MistralForCausalLM", () => {
  it("names the seven functions of the contract", () => {
    expect(Object.keys(model.getDefaultSpec())).toEqual([
      "embed",
      "prefill",
      "decode",
      "batch_prefill",
      "batch_decode",
      "batch_verify",
      "create_paged_kv_cache",
    ]);
    expect(model.get_default_spec()).toEqual(model.getDefaultSpec());
    expect(MistralForCasualLM).toBe(MistralForCausalLM);
  });

  it("traces to the shapes of the contract", () => {
    const shapes = graphs.map(({ name, outputs }) => {
      const bindings = { seq_len: 7, batch_size: 3 };
      return [
        name,
        outputs.map(({ name: output, node }) => [
          output,
          ...node.shape.map((dim) => sizeOf(dim, bindings)),
        ]),
      ];
    });
    expect(Object.fromEntries(shapes)).toEqual({
      embed: [["embeddings", 7, 64]],
      prefill: [["logits", 1, 1, 300]],
      decode: [["logits", 1, 1, 300]],
      batch_prefill: [["logits", 1, 3, 300]],
      batch_decode: [["logits", 3, 1, 300]],
      batch_verify: [["logits", 1, 7, 300]],
    });
  });

  it("gathers the rows that are asked for before the head", () => {
    const prefill = graphs.find(({ name }) => name === "batch_prefill");
    const head = prefill?.nodes.findLast(ops.isLinear);
    expect(head?.inputs[0].op.name).toBe("take");
  });
});

describe("graphs", () => {
  it("stay well formed after each pass, and print the same from run to run", () => {
    const again = trace(new MistralForCausalLM(config), model.getDefaultSpec(), bounds);
    for (const [at, graph] of graphs.entries()) {
      const dump = (from: Graph): string[] => {
        const texts: string[] = [];
        applyPasses(from, passesFor({ digits: 1, kv: "q8" }, q4), (after, pass) =>
          texts.push(`after ${pass}\n${printGraph(verify(after, pass))}`),
        );
        return texts;
      };
      expect(dump(again[at])).toEqual(dump(graph));
    }
  });

  it("print one line a node, with types, and attributes by name", () => {
    const x = ops.input("x", "f32", [symbolic("rows", 1, 4), 6]);
    const graph = graphOf("f", [x], [{ name: "y", node: ops.mul(ops.chunk(x, 2, 1), 0.5) }]);
    expect(printGraph(graph)).toBe(
      [
        "function f",
        "  %0: f32[rows, 6] = input(name=x)",
        "  %1: f32[rows, 3] = chunk(%0, parts=2, index=1)",
        "  %2: f32[] = scalar(value=0.5)",
        "  %3: f32[rows, 3] = mul(%1, %2)",
        "  return y: %3",
        "",
      ].join("\n"),
    );
  });

  it("that are not well formed are refused with the rule, the node and the pass", () => {
    const x = ops.input("x", "f32", [2, 6]);
    const y = ops.neg(x);
    const z = ops.exp(y);
    const output = [{ name: "z", node: z }];
    const good = graphOf("f", [x], output);
    const refused = (graph: typeof good) => expect(() => verify(graph, "a pass"));
    refused({ ...good, nodes: [x, z, y] }).toThrow(
      "f after a pass: %1 (exp): an input is computed after its use",
    );
    refused({ ...good, nodes: [x, y] }).toThrow(
      "f after a pass: ? (exp): an output is not among the nodes",
    );
    refused(graphOf("f", [x], [{ name: "y", node: ops.neg(ops.placeholder("any")) }])).toThrow(
      "placeholder",
    );
    refused(graphOf("f", [x], [{ name: "y", node: ops.add(x, new Capture("eps")) }])).toThrow(
      "attribute value is still a capture",
    );
    refused(
      graphOf(
        "f",
        [x],
        [{ name: "y", node: new Node(y.op, [x], {}, { dtype: "f32", shape: [9] }) }],
      ),
    ).toThrow("expected f32[2, 6], got f32[9]");
  });
});

describe("modules", () => {
  it("name parameters by their place in the tree", () => {
    const names = [...model.namedParameters().keys()];
    expect(names).toContain("model.layers.1.self_attn.qkv_proj.weight");
    expect(names).toContain("lm_head.weight");
    expect(names.length).toBe(2 + 2 * 6 + 1);
    const tied = new MistralForCausalLM(
      MistralConfig.parse({ ...config, tie_word_embeddings: true }),
    );
    expect([...tied.namedParameters().keys()]).not.toContain("lm_head.weight");
  });

  it("say which tensors of the checkpoint they are stacked from, and how shards cut them", () => {
    const name = "model.layers.0.self_attn.qkv_proj.weight";
    const parameter = model.namedParameters().get(name) ?? new Parameter([0]);
    expect(sourcesOf(name, parameter)).toEqual([
      { name: "model.layers.0.self_attn.q_proj.weight", rows: 64 },
      { name: "model.layers.0.self_attn.k_proj.weight", rows: 32 },
      { name: "model.layers.0.self_attn.v_proj.weight", rows: 32 },
    ]);
    expect(parameter.options.shard).toEqual({ axis: 0, segments: [64, 32, 32] });
    expect(() => new Parameter([5, 2], { stackedFrom: [{ name: "a", rows: 4 }] })).toThrow(
      "stacked parts have 4 rows of 5",
    );
  });

  it("report a wrong shape where it is written, and a function that is missing", () => {
    class Wrong extends Module {
      readonly proj = new Linear(8, 4);
      run(x: Tensor): Tensor {
        return this.proj.forward(x);
      }
    }
    const spec = (name: string, width: number) => ({
      [name]: {
        args: { x: tensorSpec([2, width]) },
        returns: "y",
        param_mode: "packed",
        effect_mode: "none",
      } as const,
    });
    const [run] = trace(new Wrong(), spec("run", 8), {});
    expect(run.outputs[0].node.shape).toEqual([2, 4]);
    expect(() => trace(new Wrong(), spec("run", 9), {})).toThrow("linear of [2, 9] by [4, 8]");
    expect(() => trace(new Wrong(), spec("walk", 8), {})).toThrow("the spec names walk");
    expect(() => new Wrong().proj.weight.value).toThrow("outside a trace");
  });

  it("refuse parts of the last axis that are no whole columns of it", () => {
    const x = ops.input("x", "f32", [symbolic("rows", 1, 4), 7]);
    expect(ops.slice(x, 2, 7).shape[1]).toBe(5);
    for (const wrong of [ops.chunk(x, 2, 0), ops.slice(x, -1, 2), ops.slice(x, 3, 8)])
      expect(() => wrong.type).toThrow("of [rows, 7]: expected columns of it");
    const lastUnknown = ops.input("y", "f32", [7, symbolic("rows", 1, 4)]);
    expect(() => ops.slice(lastUnknown, 0, 1).type).toThrow("of [7, rows]");
  });

  it("refuse arithmetic on integers, and rows that are no integers", () => {
    const [ids, x] = [ops.input("ids", "i32", [4, 4]), ops.input("x", "f32", [4, 4])];
    for (const wrong of [ops.exp(ids), ops.add(x, ids), ops.sum(ids), ops.linear(ids, x)])
      expect(() => wrong.type).toThrow(`${wrong.op.name}: expected f32, got i32`);
    expect(ops.take(x, ids).shape).toEqual([4, 4, 4]);
    expect(() => ops.take(x, x).type).toThrow("take: expected i32 for rows, got f32");
  });

  it("refuse attention over heads that do not fit", () => {
    const cache = ops.input("cache", "cache", []);
    const append = (heads: number, kvHeads: number, headDim: number) =>
      ops.ropeAppend(ops.input("qkv", "f32", [2, 32]), cache, {
        layer: 0,
        heads,
        kvHeads,
        headDim,
        ropeBase: 1,
        kv: "f32",
      }).type;
    expect(append(2, 1, 8).shape).toEqual([2, 2, 16]);
    for (const wrong of [
      [3, 1, 8],
      [1, 1.5, 8],
      [2, 3, 4],
    ] as const)
      expect(() => append(wrong[0], wrong[1], wrong[2])).toThrow("rope_append of [2, 32]");
  });
});
