import { found, UnsupportedError } from "../base/errors.ts";
import type { Graph, Node } from "../ir/graph.ts";
import { columnsOf, rowsOf, type Lowering, type StepDraft } from "../kernels/kernel.ts";
import { isParam } from "../ops/index.ts";
import type { Argument, PlannedBuffer, PlannedFunction, Step } from "../plan/plan.ts";
import { bytesOf, placeBuffers, storedAs, type Lifetime } from "./buffers.ts";
import type { Selected } from "./select.ts";

/** What planning a function needs to know of the rest of the model. */
export interface Surroundings extends Omit<Lowering, "address" | "temporary" | "takeTurns"> {
  /** Address of a parameter as plain f32 rows. */
  plain(param: Node): Argument;
}

interface Buffer extends Lifetime {
  readonly name: string;
  readonly slot: boolean;
}

/** A step with what it reads and writes: buffers by number, the cache of layer n as −1 − n. */
interface Draft {
  readonly step: StepDraft;
  readonly reads: readonly number[];
  readonly writes: readonly number[];
}

const outputRule = "must be computed, once, and be named unlike the inputs";
const bufferAt = (buffer: number): Argument => ({ kind: "buffer", buffer, offset: 0 });

/** Stands for the tickets among numbers of buffers; those of cached layers are below 0, too. */
const ticketWord = -Infinity;

/** Gives every value its memory, every kernel its steps, and puts barriers where steps depend on each other. */
export class FunctionPlanner {
  readonly #graph: Graph;
  readonly #around: Surroundings;
  readonly #buffers: Buffer[] = [];
  readonly #bufferOf = new Map<Node, number>();
  readonly #drafts: Draft[] = [];
  #now = 0;

  constructor(graph: Graph, around: Surroundings) {
    this.#graph = graph;
    this.#around = around;
    for (const node of graph.inputs)
      if (node.type.dtype !== "cache") this.#allocate(node, node.string("name"), true);
    for (const { name, node } of graph.outputs) {
      const stored = storedAs(node);
      const taken = graph.inputs.some((input) => input.string("name") === name);
      if (taken || stored.op.kind === "source" || this.#bufferOf.has(stored))
        throw new UnsupportedError("output", `${graph.name}: the output ${name} ${outputRule}`);
      this.#allocate(stored, name, true);
    }
  }

  plan(selected: readonly Selected[]): PlannedFunction {
    for (const choice of selected) this.#add(choice);
    const { offsets, bytes: arenaBytes } = placeBuffers(this.#buffers.filter(({ slot }) => !slot));
    let placed = 0;
    const buffers = this.#buffers.map(({ name, bytes, slot }): PlannedBuffer => ({
      name,
      bytes,
      place: slot ? { kind: "slot" } : { kind: "arena", offset: offsets[placed++] },
    }));
    const outputs = this.#graph.outputs.map(({ name, node }) => ({
      name,
      elements: rowsOf(node),
      width: columnsOf(node),
    }));
    const steps = withBarriers(this.#drafts, buffers);
    return { name: this.#graph.name, buffers, steps, outputs, arenaBytes };
  }

  #allocate(node: Node, name: string, slot = false): void {
    if (!this.#bufferOf.has(node))
      this.#bufferOf.set(node, this.#newBuffer(name, bytesOf(node), slot));
  }

  #newBuffer(name: string, bytes: number, slot = false): number {
    return this.#buffers.push({ name, slot, bytes, from: this.#now, to: this.#now }) - 1;
  }

  #address(node: Node): Argument {
    const stored = storedAs(node);
    if (isParam(stored)) return this.#around.plain(stored);
    const problem = `${this.#graph.name}: ${stored.op.name} was not computed`;
    return bufferAt(found(this.#bufferOf.get(stored), "address", problem));
  }

  #add({ root, reads: inputs, lower }: Selected): void {
    this.#allocate(root, `${root.op.name}@${this.#now}`);
    const before = this.#buffers.length;
    let takesTurns = false;
    const steps = lower({
      ...this.#around,
      address: (node) => this.#address(node),
      temporary: (name, bytes) => bufferAt(this.#newBuffer(name, bytes)),
      takeTurns: () => (takesTurns = true),
    });
    const reads = inputs.flatMap((node) => this.#touch(node));
    const temporaries = [...this.#buffers.keys()].slice(before);
    const writes = [...this.#touch(root), ...temporaries];
    if (root.op.kind === "cache") (root.op.effect ? writes : reads).push(-1 - root.number("layer"));
    if (takesTurns) writes.push(ticketWord);
    for (const step of steps) this.#drafts.push({ step, reads, writes });
    this.#now++;
  }

  /** Keeps a value alive until now; returns its buffer, if it has one. */
  #touch(node: Node): number[] {
    const buffer = this.#bufferOf.get(storedAs(node));
    if (buffer === undefined) return [];
    this.#buffers[buffer].to = this.#now;
    return [buffer];
  }
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
