import { sameShape } from "../ir/dim.ts";
import { countUses, type Graph, type Node } from "../ir/graph.ts";
import { elementwiseInputs } from "../kernels/generic/elementwise.ts";
import { lowerGeneric } from "../kernels/generic/index.ts";
import type { Kernel, Lowering, ModelFacts, StepDraft } from "../kernels/kernel.ts";
import { storedAs } from "./buffers.ts";
import { match } from "./match.ts";

/** The code that computes a node: a kernel's, or generic. */
export interface Selected {
  readonly root: Node;
  /** Values that it reads, maybe reshaped. */
  readonly reads: readonly Node[];
  lower(at: Lowering): StepDraft[];
}

/**
 * Chooses code for every node that is needed, from the outputs backwards: the first kernel of the list whose meaning
 * matches, else generic code. Returned in order of computation.
 */
export function select(graph: Graph, kernels: readonly Kernel[], model: ModelFacts): Selected[] {
  const uses = countUses(graph);
  const needed = new Set(graph.outputs.map(({ node }) => storedAs(node)));
  const selected: Selected[] = [];
  for (const node of graph.nodes.toReversed()) {
    if ((!needed.has(node) && !node.op.effect) || node.op.kind === "source") continue;
    const choice = kernelFor(node) ?? genericFor(node);
    for (const input of choice.reads) needed.add(storedAs(input));
    selected.push(choice);
  }
  return selected.toReversed();

  function kernelFor(root: Node): Selected | undefined {
    for (const kernel of kernels) {
      const use = match(kernel.meaning, root, uses);
      if (use === undefined || kernel.accepts?.(use, model) === false) continue;
      return { root, reads: [...use.inputs.values()], lower: (at) => kernel.lower(use, at) };
    }
  }

  function genericFor(root: Node): Selected {
    const inline = new Set(root.op.kind === "elementwise" ? inlineOf(root) : []);
    const reads = elementwiseInputs(root, inline);
    return { root, reads, lower: (at) => lowerGeneric(root, inline, at) };
  }

  /** Elementwise inputs that nothing else reads, that have the node's shape, and that no kernel takes; and theirs. */
  function inlineOf(node: Node): Node[] {
    const inner = node.inputs.filter(
      (input) =>
        input.op.kind === "elementwise" &&
        uses.get(input) === 1 &&
        sameShape(input.shape, node.shape) &&
        !kernelFor(input),
    );
    return inner.flatMap((input) => [input, ...inlineOf(input)]);
  }
}
