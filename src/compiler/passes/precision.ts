import { Node, rewrite, withInputs, type Graph } from "../../ir/graph.ts";
import {
  isCacheOp,
  isLinear,
  isParam,
  isReshape,
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

/**
 * Says in the graph where activations are rounded: before every linear whose weight `isInteger`. A linear whose result leaves
 * the function (the head) gets two digits: no layer after it averages its error, and it runs on the rows that are asked for.
 */
export const roundLinearInputs =
  (digits: Digits, isInteger: (param: string) => boolean) =>
  (graph: Graph): Graph => {
    const leaving = new Set(graph.outputs.map(({ node }) => unshaped(node)));
    return rewrite(graph, (node, inputs) => {
      const [x, weight] = inputs;
      if (!isLinear(node) || !isParam(weight) || !isInteger(weight.string("name")))
        return withInputs(node, inputs);
      return linear(roundActivations(x, leaving.has(node) ? 2 : digits), weight);
    });
  };

const unshaped = (node: Node): Node => (isReshape(node) ? unshaped(node.inputs[0]) : node);
