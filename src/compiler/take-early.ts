import { Node, rewrite, withInputs, type Graph } from "../ir/graph.ts";
import { isColumns, isTake } from "../ops/index.ts";

/** The name of the size that counts a value's rows; parameters have none. */
const rowsOf = ({ shape }: Node): string | undefined =>
  shape.length > 1 && typeof shape[0] === "object" ? shape[0].name : undefined;

/** Whether each row of the result follows from the same row of the inputs that have rows. */
const isRowWise = (node: Node): boolean =>
  rowsOf(node) !== undefined &&
  (["elementwise", "reduce", "contract", "round"].includes(node.op.kind) || isColumns(node));

const isTakeOfRows = (node: Node): boolean =>
  isTake(node) && node.inputs.slice(1).every(({ op }) => op.kind === "source");

/**
 * Takes rows before the work on them and not after it: what leads to nothing but a `take` (or `last_row`), row by row, is done
 * for the rows that are taken. In a decoder's prefill that is all of the last layer behind its attention.
 */
export function takeEarly(graph: Graph): Graph {
  const takes = takesOf(graph);
  return rewrite(graph, (node, inputs) => {
    const take = takes.get(node);
    if (take === undefined) return withInputs(node, inputs);
    const isTaken = (at: number): boolean => takes.get(node.inputs[at]) === take;
    if (node === take) return isTaken(0) ? inputs[0] : withInputs(node, inputs);
    const taken = inputs.map((input, at) =>
      isTaken(at) || rowsOf(node.inputs[at]) !== rowsOf(node)
        ? input
        : new Node(take.op, [input, ...take.inputs.slice(1)], take.attrs),
    );
    return new Node(node.op, taken, node.attrs);
  });
}

/** Of each node that leads to one take only: that take. */
function takesOf({ nodes, outputs }: Graph): Map<Node, Node> {
  const takes = new Map<Node, Node>();
  const users = new Map<Node, Set<Node | undefined>>();
  const use = (node: Node, take: Node | undefined): unknown =>
    users.set(node, (users.get(node) ?? new Set()).add(take));
  for (const { node } of outputs) use(node, undefined);
  for (const node of nodes.toReversed()) {
    const [take, ...others] = users.get(node) ?? [];
    if (isTakeOfRows(node)) takes.set(node, node);
    else if (take !== undefined && others.length === 0 && isRowWise(node)) takes.set(node, take);
    for (const input of node.inputs) use(input, takes.get(node));
  }
  return takes;
}
