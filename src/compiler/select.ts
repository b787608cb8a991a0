import { sameShape } from "../ir/dim.ts";
import { Capture, countUses, type Graph, type Node } from "../ir/graph.ts";
import { elementwiseInputs } from "../kernels/generic/elementwise.ts";
import { lowerGeneric } from "../kernels/generic/index.ts";
import type { Kernel, Lowering, ModelFacts, StepDraft, Use } from "../kernels/kernel.ts";
import { commutative, isPlaceholder, isReshape } from "../ops/index.ts";

/** The value whose memory a node uses: reshapes change nothing in memory. */
export const storedAs = (node: Node): Node => (isReshape(node) ? storedAs(node.inputs[0]) : node);

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

  /** What is not elementwise has nothing inline, and reads its inputs, but for scalars. */
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

/**
 * Matches a pattern (a kernel's meaning on placeholders) at a node. Nodes inside the pattern may have no use outside of it, so
 * that nothing is computed twice; the root may. What stands twice in a pattern is one placeholder.
 */
function match(meaning: Node, root: Node, uses: ReadonlyMap<Node, number>): Use | undefined {
  if (meaning.op !== root.op) return undefined; // nearly always
  let found = new Map<Node, { readonly node: Node; readonly uses: number }>(); // by node of the pattern
  let attrs = new Map<string, number | string>();
  function unify(pattern: Node, node: Node): boolean {
    const before = found.get(pattern);
    found.set(pattern, { node, uses: (before?.uses ?? 0) + 1 });
    if (before) return before.node === node;
    if (isPlaceholder(pattern)) return true;
    if (pattern.op !== node.op || pattern.inputs.length !== node.inputs.length) return false;
    for (const [key, expected] of Object.entries(pattern.attrs)) {
      const value = node.attrs[key];
      if (!(expected instanceof Capture)) {
        if (JSON.stringify(expected) !== JSON.stringify(value)) return false;
      } else if (typeof value !== "number" && typeof value !== "string") return false;
      else if ((attrs.get(expected.name) ?? value) !== value) return false;
      else attrs.set(expected.name, value);
    }
    const takes = (given: readonly Node[]): boolean =>
      given.every((input, at) => unify(pattern.inputs[at], input));
    if (!commutative.has(node.op.name)) return takes(node.inputs);
    const kept = [new Map(found), new Map(attrs)] as const;
    if (takes(node.inputs)) return true;
    [found, attrs] = kept;
    return takes(node.inputs.toReversed());
  }
  if (!unify(meaning, root)) return undefined;
  const inputs = new Map<string, Node>();
  for (const [pattern, { node, uses: inside }] of found)
    if (isPlaceholder(pattern)) inputs.set(pattern.string("name"), node);
    else if (pattern !== meaning && node.op.kind !== "source" && uses.get(node) !== inside)
      return undefined;
  return { root, inputs, attrs };
}
