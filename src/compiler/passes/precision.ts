import { Node, rewrite, withInputs, type Graph } from "../../ir/graph.ts";
import {
  isCacheOp,
  isLinear,
  isParam,
  linear,
  roundActivations,
  type Digits,
} from "../../ops/index.ts";
import type { KvType } from "../../quant/kv-page.ts";

/** Says in the graph how the cache rounds keys and values. */
export const roundCache =
  (kv: KvType) =>
  (graph: Graph): Graph =>
    rewrite(graph, (node, inputs) =>
      isCacheOp(node) ? new Node(node.op, inputs, { ...node.attrs, kv }) : withInputs(node, inputs),
    );

/** Says in the graph where activations are rounded: before every linear whose weight `isInteger`. */
export const roundLinearInputs =
  (digits: Digits, isInteger: (param: string) => boolean) =>
  (graph: Graph): Graph =>
    rewrite(graph, (node, inputs) => {
      const [x, weight] = inputs;
      return isLinear(node) && isParam(weight) && isInteger(weight.string("name"))
        ? linear(roundActivations(x, digits), weight)
        : withInputs(node, inputs);
    });
