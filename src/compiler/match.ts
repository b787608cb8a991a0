import { Capture, type Node } from "../ir/graph.ts";
import type { Use } from "../kernels/kernel.ts";
import { commutative, isPlaceholder } from "../ops/index.ts";

/**
 * Matches a pattern (a kernel's meaning on placeholders) at a node. Nodes inside the pattern may have no use outside of it, so
 * that nothing is computed twice; the root may.
 */
export function match(meaning: Node, root: Node, uses: ReadonlyMap<Node, number>): Use | undefined {
  let inputs = new Map<string, Node>();
  let attrs = new Map<string, number | string>();
  let inner = new Map<Node, { readonly node: Node; readonly uses: number }>(); // by their node of the pattern
  function unify(pattern: Node, node: Node): boolean {
    if (isPlaceholder(pattern)) return bind(inputs, pattern.string("name"), node);
    if (pattern.op !== node.op || pattern.inputs.length !== node.inputs.length) return false;
    const before = inner.get(pattern);
    if (node.op.kind !== "source") inner.set(pattern, { node, uses: (before?.uses ?? 0) + 1 });
    if (before) return before.node === node;
    for (const [key, expected] of Object.entries(pattern.attrs)) {
      const value = node.attrs[key];
      if (!(expected instanceof Capture)) {
        if (JSON.stringify(expected) !== JSON.stringify(value)) return false;
      } else if (typeof value !== "number" && typeof value !== "string") return false;
      else if (!bind(attrs, expected.name, value)) return false;
    }
    const takes = (given: readonly Node[]): boolean =>
      given.every((input, at) => unify(pattern.inputs[at], input));
    if (!commutative.has(node.op.name)) return takes(node.inputs);
    const kept = [new Map(inputs), new Map(attrs), new Map(inner)] as const;
    if (takes(node.inputs)) return true;
    [inputs, attrs, inner] = kept;
    return takes(node.inputs.toReversed());
  }
  if (meaning.op !== root.op || !unify(meaning, root)) return undefined;
  inner.delete(meaning);
  const isClosed = [...inner.values()].every((each) => uses.get(each.node) === each.uses);
  return isClosed ? { root, inputs, attrs } : undefined;
}

function bind<T>(bound: Map<string, T>, name: string, value: T): boolean {
  if (!bound.has(name)) bound.set(name, value);
  return bound.get(name) === value;
}
