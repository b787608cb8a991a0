import { countUses, type Graph, type Node } from "../ir/graph.ts";
import { isReshape, isScalar } from "../ops/index.ts";
import type { Kernel, ModelFacts, Use } from "../kernels/kernel.ts";
import { elementwiseInputs } from "../kernels/generic/index.ts";
import { match } from "./match.ts";

/** What computes a node: a kernel, or generic code with the elementwise inputs it computes inline. */
export type Selected =
  | { readonly kind: "kernel"; readonly kernel: Kernel; readonly use: Use }
  | { readonly kind: "generic"; readonly node: Node; readonly inline: ReadonlySet<Node> };

export const rootOf = (selected: Selected): Node =>
  selected.kind === "kernel" ? selected.use.root : selected.node;

/** Values that a selected computation reads; reshapes are looked through by the planner. */
export const readsOf = (selected: Selected): readonly Node[] =>
  selected.kind === "kernel"
    ? [...selected.use.inputs.values()]
    : selected.node.op.kind === "elementwise"
      ? elementwiseInputs(selected.node, selected.inline)
      : selected.node.inputs.filter((input) => !isScalar(input));

/**
 * Chooses code for every node that is needed, from the outputs backwards: the first kernel of the list whose meaning
 * matches, else generic code. Returned in order of computation.
 */
export function select(graph: Graph, kernels: readonly Kernel[], model: ModelFacts): Selected[] {
  const uses = countUses(graph);
  const needed = new Set<Node>(graph.outputs.map(({ node }) => node));
  const selected: Selected[] = [];
  for (const node of graph.nodes.toReversed()) {
    if (!needed.has(node) && !node.op.effect) continue;
    if (node.op.kind === "source") continue;
    if (isReshape(node)) {
      needed.add(node.inputs[0]);
      continue;
    }
    const choice = selectNode(node, kernels, model, uses);
    for (const input of readsOf(choice)) needed.add(input);
    selected.push(choice);
  }
  return selected.toReversed();
}

function selectNode(
  node: Node,
  kernels: readonly Kernel[],
  model: ModelFacts,
  uses: ReadonlyMap<Node, number>,
): Selected {
  for (const kernel of kernels) {
    const found = match(kernel.meaning, node, uses);
    if (found === undefined) continue;
    const use = { root: node, inputs: found.inputs, attrs: found.attrs };
    if (kernel.accepts?.(use, model) ?? true) return { kind: "kernel", kernel, use };
  }
  return { kind: "generic", node, inline: inlineOf(node, kernels, model, uses) };
}

/** Elementwise inputs of an elementwise node that nothing else reads, that have its shape, and that no kernel takes. */
function inlineOf(
  node: Node,
  kernels: readonly Kernel[],
  model: ModelFacts,
  uses: ReadonlyMap<Node, number>,
): Set<Node> {
  const inline = new Set<Node>();
  if (node.op.kind !== "elementwise") return inline;
  for (const input of node.inputs) {
    if (input.op.kind !== "elementwise" || uses.get(input) !== 1) continue;
    if (JSON.stringify(input.shape) !== JSON.stringify(node.shape)) continue;
    const choice = selectNode(input, kernels, model, uses);
    if (choice.kind === "kernel") continue;
    inline.add(input);
    for (const inner of choice.inline) inline.add(inner);
  }
  return inline;
}
