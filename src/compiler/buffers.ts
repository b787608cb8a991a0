import { maxOf, product } from "../ir/dim.ts";
import type { Node } from "../ir/graph.ts";
import { roundedPlace } from "../kernels/rows.ts";
import { columnsOf, maxRowsOf } from "../kernels/kernel.ts";
import { isReshape, isRound, type Digits } from "../ops/index.ts";
import { align } from "../plan/plan.ts";

/** The value whose memory a node uses: reshapes change nothing in memory. */
export const storedAs = (node: Node): Node => (isReshape(node) ? storedAs(node.inputs[0]) : node);

/** Bytes of a value at its largest. */
export function bytesOf(node: Node): number {
  if (!isRound(node)) return 4 * maxOf(product(node.shape));
  return roundedPlace(columnsOf(node), node.number("digits") as Digits, maxRowsOf(node)).bytes;
}

/** A stretch of time (step numbers, both included) in which some bytes must not be used for anything else. */
export interface Lifetime {
  readonly bytes: number;
  readonly from: number;
  to: number;
}

/**
 * Places buffers in one arena so that those alive at the same time do not overlap: the largest first, each at the lowest
 * offset that is free during its life. Returns the offsets and the size of the arena.
 */
export function placeBuffers(lives: readonly Lifetime[]): { offsets: number[]; bytes: number } {
  const order = lives.map((_, at) => at).sort((a, b) => lives[b].bytes - lives[a].bytes);
  const offsets = lives.map(() => 0);
  const endOf = (at: number): number => offsets[at] + align(lives[at].bytes);
  for (const [place, at] of order.entries()) {
    const { from, to } = lives[at];
    const isAlive = (other: number): boolean => lives[other].from <= to && lives[other].to >= from;
    const others = order.slice(0, place).filter(isAlive);
    for (const other of others.sort((a, b) => offsets[a] - offsets[b]))
      if (offsets[other] < endOf(at)) offsets[at] = Math.max(offsets[at], endOf(other));
  }
  return { offsets, bytes: Math.max(0, ...order.map(endOf)) };
}
