import { found, UnsupportedError } from "../base/errors.ts";
import { maxOf, product } from "../ir/dim.ts";
import type { Graph, Node } from "../ir/graph.ts";
import { columnsOf, maxRowsOf, rowsOf, type Lowering, type StepDraft } from "../kernels/kernel.ts";
import { roundedPlace } from "../kernels/rows.ts";
import { isParam, isRound, type Digits } from "../ops/index.ts";
import { align } from "../plan/plan.ts";
import type { Argument, PlannedBuffer, PlannedFunction, Step } from "../plan/plan.ts";
import { storedAs, type Selected } from "./select.ts";

/** What planning a function needs to know of the rest of the model. */
export interface Surroundings extends Omit<Lowering, "address" | "temporary" | "takeTurns"> {
  /** Address of a parameter as plain f32 rows. */
  plain(param: Node): Argument;
}

/** A stretch of time (step numbers, both included) in which some bytes must not be used for anything else. */
export interface Lifetime {
  readonly bytes: number;
  readonly from: number;
  to: number;
}

/** A step with what it reads and writes: buffers by number, the cache of layer n as −1 − n. */
type Draft = { readonly step: StepDraft } & Readonly<Record<"reads" | "writes", readonly number[]>>;

/** Stands for the tickets among numbers of buffers; those of cached layers are below 0, too. */
const ticketWord = -Infinity;

const outputRule = "must be computed, once, and be named unlike the inputs";
const bufferAt = (buffer: number): Argument => ({ kind: "buffer", buffer, offset: 0 });

/** The buffers of a function: first its inputs and outputs, whose memory the caller chooses. */
class Buffers {
  readonly list: (Lifetime & { readonly name: string })[] = [];
  readonly of = new Map<Node, number>();
  now = 0;

  add(name: string, bytes: number): number {
    return this.list.push({ name, bytes, from: this.now, to: this.now }) - 1;
  }

  allocate(node: Node, name: string): void {
    if (!this.of.has(node)) this.of.set(node, this.add(name, bytesOf(node)));
  }

  /** Returns how many there are. */
  addSlots({ name: method, inputs, outputs }: Graph): number {
    for (const node of inputs)
      if (node.type.dtype !== "cache") this.allocate(node, node.string("name"));
    for (const { name, node } of outputs) {
      const stored = storedAs(node);
      const taken = inputs.some((input) => input.string("name") === name);
      if (taken || stored.op.kind === "source" || this.of.has(stored))
        throw new UnsupportedError("output", `${method}: the output ${name} ${outputRule}`);
      this.allocate(stored, name);
    }
    return this.list.length;
  }

  /** Keeps a value alive until now; returns its buffer, if it has one. */
  touch(node: Node): number[] {
    const buffer = this.of.get(storedAs(node));
    if (buffer === undefined) return [];
    this.list[buffer].to = this.now;
    return [buffer];
  }
}

/** Gives every value its memory, every kernel its steps, and puts barriers where steps depend on each other. */
export function planFunction(
  graph: Graph,
  selected: readonly Selected[],
  around: Surroundings,
): PlannedFunction {
  const memory = new Buffers();
  const slots = memory.addSlots(graph);
  const temporary = (name: string, bytes: number): Argument => bufferAt(memory.add(name, bytes));
  const address = (node: Node): Argument => {
    const stored = storedAs(node);
    if (isParam(stored)) return around.plain(stored);
    const problem = `${graph.name}: ${stored.op.name} was not computed`;
    return bufferAt(found(memory.of.get(stored), "address", problem));
  };
  const drafts = selected.flatMap(({ root, reads: inputs, lower }): Draft[] => {
    memory.allocate(root, `${root.op.name}@${memory.now}`);
    const before = memory.list.length;
    let takesTurns = false;
    const takeTurns = (): unknown => (takesTurns = true);
    const steps = lower({ ...around, address, temporary, takeTurns });
    const reads = inputs.flatMap((node) => memory.touch(node));
    const writes = [...memory.touch(root), ...[...memory.list.keys()].slice(before)];
    if (root.op.kind === "cache") (root.op.effect ? writes : reads).push(-1 - root.number("layer"));
    if (takesTurns) writes.push(ticketWord);
    memory.now++;
    return steps.map((step) => ({ step, reads, writes }));
  });
  const { offsets, bytes: arenaBytes } = placeBuffers(memory.list.slice(slots));
  const buffers = memory.list.map(({ name, bytes }, at): PlannedBuffer => ({
    name,
    bytes,
    place: at < slots ? { kind: "slot" } : { kind: "arena", offset: offsets[at - slots] },
  }));
  const outputs = graph.outputs.map(({ name, node }) => {
    return { name, elements: rowsOf(node), width: columnsOf(node) };
  });
  const steps = withBarriers(drafts, buffers);
  return { name: graph.name, buffers, steps, outputs, arenaBytes };
}

/** Bytes of a value at its largest. */
function bytesOf(node: Node): number {
  if (!isRound(node)) return 4 * maxOf(product(node.shape));
  return roundedPlace(columnsOf(node), node.number("digits") as Digits, maxRowsOf(node)).bytes;
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

/** A barrier before each step that reads or writes memory which a step since the last barrier wrote, or writes what one read. */
function withBarriers(drafts: readonly Draft[], buffers: readonly PlannedBuffer[]): Step[] {
  const same = (a: number, b: number): boolean => {
    const [x, y] = [buffers[a], buffers[b]];
    if (a === b || x?.place.kind !== "arena" || y?.place.kind !== "arena") return a === b;
    return x.place.offset < y.place.offset + y.bytes && y.place.offset < x.place.offset + x.bytes;
  };
  const meet = (some: readonly number[], others: readonly number[]): boolean =>
    some.some((a) => others.some((b) => same(a, b)));
  let reads: readonly number[] = [];
  let writes: readonly number[] = [];
  return drafts.map(({ step, ...own }) => {
    const barrier = meet(own.reads, writes) || meet(own.writes, writes) || meet(own.writes, reads);
    reads = barrier ? own.reads : [...reads, ...own.reads];
    writes = barrier ? own.writes : [...writes, ...own.writes];
    return { ...step, barrier };
  });
}
