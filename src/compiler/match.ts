import { Capture, type Node } from "../ir/graph.ts";
import { commutative, isPlaceholder } from "../ops/index.ts";

/** What a pattern found: placeholders by name, captured attributes by name, and the nodes that the pattern covers. */
export interface Match {
  readonly inputs: ReadonlyMap<string, Node>;
  readonly attrs: ReadonlyMap<string, number | string>;
  readonly covered: readonly Node[];
}

interface Trail {
  inputs: Map<string, Node>;
  attrs: Map<string, number | string>;
  covered: Node[];
}

/**
 * Matches a pattern (a kernel's meaning on placeholders) at a node. Nodes inside the pattern may have no other use, so that
 * nothing is computed twice; the root may.
 */
export function match(
  pattern: Node,
  root: Node,
  uses: ReadonlyMap<Node, number>,
): Match | undefined {
  const trail: Trail = { inputs: new Map(), attrs: new Map(), covered: [] };
  return unify(pattern, root, trail, (node) => node === root || uses.get(node) === 1)
    ? trail
    : undefined;
}

function unify(pattern: Node, node: Node, trail: Trail, inside: (node: Node) => boolean): boolean {
  if (isPlaceholder(pattern)) return bind(trail.inputs, pattern.string("name"), node);
  if (pattern.op !== node.op || pattern.inputs.length !== node.inputs.length) return false;
  if (node.op.kind !== "source" && !inside(node)) return false;
  if (!unifyAttrs(pattern, node, trail)) return false;
  if (node.op.kind !== "source") trail.covered.push(node);
  const orders = commutative.has(node.op.name)
    ? [node.inputs, node.inputs.toReversed()]
    : [node.inputs];
  return orders.some((inputs) => {
    const saved = copy(trail);
    if (inputs.every((input, at) => unify(pattern.inputs[at], input, trail, inside))) return true;
    Object.assign(trail, saved);
    return false;
  });
}

function unifyAttrs(pattern: Node, node: Node, trail: Trail): boolean {
  return Object.entries(pattern.attrs).every(([key, expected]) => {
    const value = node.attrs[key];
    if (!(expected instanceof Capture)) return JSON.stringify(expected) === JSON.stringify(value);
    return (
      (typeof value === "number" || typeof value === "string") &&
      bind(trail.attrs, expected.name, value)
    );
  });
}

function bind<T>(bound: Map<string, T>, name: string, value: T): boolean {
  const before = bound.get(name);
  if (before !== undefined) return before === value;
  bound.set(name, value);
  return true;
}

const copy = (trail: Trail): Trail => ({
  inputs: new Map(trail.inputs),
  attrs: new Map(trail.attrs),
  covered: [...trail.covered],
});
