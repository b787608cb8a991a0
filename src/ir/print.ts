import { showDim, showShape } from "./dim.ts";
import { Capture, type Attr, type Graph, type Node, type TensorType } from "./graph.ts";

const showAttr = (value: Attr): string => {
  if (value instanceof Capture) return `?${value.name}`;
  if (typeof value === "object") return `[${value.map(showDim).join(", ")}]`;
  return String(value);
};

export const showType = ({ dtype, shape }: TensorType): string => `${dtype}${showShape(shape)}`;

/** `%3` style names in order of computation. */
export const nodeNames = ({ nodes }: Graph): Map<Node, string> =>
  new Map(nodes.map((node, index) => [node, `%${index}`]));

/** One line a node, stable from run to run. */
export function printGraph(graph: Graph): string {
  const names = nodeNames(graph);
  const nameOf = (node: Node): string => names.get(node) ?? "%?";
  const lines = graph.nodes.map((node) => {
    const attrs = Object.entries(node.attrs).map(([key, value]) => `${key}=${showAttr(value)}`);
    const args = [...node.inputs.map(nameOf), ...attrs].join(", ");
    return `  ${nameOf(node)}: ${showType(node.type)} = ${node.op.name}(${args})`;
  });
  const outputs = graph.outputs.map(({ name, node }) => `${name}: ${nameOf(node)}`).join(", ");
  return `function ${graph.name}\n${lines.join("\n")}\n  return ${outputs}\n`;
}
