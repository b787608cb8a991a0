import { InternalError, UnsupportedError } from "../base/errors.ts";
import type { WasmFeatures } from "../codegen/wasm/features.ts";
import type { Graph, Node } from "../ir/graph.ts";
import { lowerGeneric } from "../kernels/generic/index.ts";
import {
  columnsOf,
  rowsOf,
  type Lowering,
  type StepDraft,
  type WeightPart,
} from "../kernels/kernel.ts";
import { isParam } from "../ops/index.ts";
import type { Argument, PlannedBuffer, PlannedFunction, Step } from "../plan/plan.ts";
import { bytesOf, placeBuffers, storedAs, type Lifetime } from "./buffers.ts";
import type { ProgramSet } from "./programs.ts";
import { readsOf, rootOf, type Selected } from "./select.ts";

/** What planning a function needs to know of the rest of the model. */
export interface Surroundings {
  readonly features: WasmFeatures;
  readonly maxKeys: number;
  readonly programs: ProgramSet;
  packed(param: Node): readonly WeightPart[];
  plain(param: Node): Argument;
}

interface Buffer {
  readonly name: string;
  readonly slot: boolean;
  readonly life: Lifetime;
}

/** A step with what it reads and writes: buffers by number, caches by name. */
interface Draft {
  readonly step: StepDraft;
  readonly reads: readonly (number | string)[];
  readonly writes: readonly (number | string)[];
}

/** Gives every value its memory, every kernel its steps, and puts barriers where steps depend on each other. */
export function planFunction(
  graph: Graph,
  selected: readonly Selected[],
  around: Surroundings,
): PlannedFunction {
  const planner = new FunctionPlanner(graph, around);
  selected.forEach((choice, at) => planner.add(choice, at));
  return planner.finish();
}

class FunctionPlanner {
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
        throw new UnsupportedError(
          "output",
          `${graph.name}: the output ${name} must be computed, once, and be named unlike the inputs`,
        );
      this.#allocate(stored, name, true);
    }
  }

  #allocate(node: Node, name: string, slot: boolean): number {
    const known = this.#bufferOf.get(node);
    if (known !== undefined) return known;
    const life = { bytes: bytesOf(node), from: this.#now, to: this.#now };
    this.#buffers.push({ name, slot, life });
    this.#bufferOf.set(node, this.#buffers.length - 1);
    return this.#buffers.length - 1;
  }

  add(choice: Selected, at: number): void {
    this.#now = at;
    const root = rootOf(choice);
    this.#allocate(root, `${root.op.name}@${at}`, false);
    const lowering = this.#lowering();
    const firstTemporary = this.#buffers.length;
    const drafts =
      choice.kind === "kernel"
        ? choice.kernel.lower(choice.use, lowering)
        : lowerGeneric(choice.node, choice.inline, lowering);
    const cache = root.op.kind === "cache" ? [`cache ${root.number("layer")}`] : [];
    const reads = readsOf(choice).flatMap((node) => this.#touch(node));
    const temporaries = this.#buffers.map((_, index) => index).slice(firstTemporary);
    const writes = [...this.#touch(root), ...temporaries];
    for (const step of drafts)
      this.#drafts.push({
        step,
        reads: [...reads, ...(root.op.effect ? [] : cache)],
        writes: [...writes, ...(root.op.effect ? cache : [])],
      });
  }

  /** Keeps a value alive until now; returns its buffer, if it has one. */
  #touch(node: Node): number[] {
    const buffer = this.#bufferOf.get(storedAs(node));
    if (buffer === undefined) return [];
    this.#buffers[buffer].life.to = this.#now;
    return [buffer];
  }

  #lowering(): Lowering {
    const { features, maxKeys, programs, packed } = this.#around;
    return {
      features,
      maxKeys,
      address: (node) => this.#address(node),
      weight: packed,
      temporary: (name, bytes) => this.#temporary(name, bytes),
      program: (name, emit) => programs.add(name, emit),
      scratch: (bytes) => programs.needScratch(bytes),
    };
  }

  #address(node: Node): Argument {
    const stored = storedAs(node);
    if (isParam(stored)) return this.#around.plain(stored);
    const buffer = this.#bufferOf.get(stored);
    if (buffer === undefined)
      throw new InternalError("address", `${this.#graph.name}: ${stored.op.name} was not computed`);
    return { kind: "buffer", buffer, offset: 0 };
  }

  #temporary(name: string, bytes: number): Argument {
    this.#buffers.push({ name, slot: false, life: { bytes, from: this.#now, to: this.#now } });
    return { kind: "buffer", buffer: this.#buffers.length - 1, offset: 0 };
  }

  finish(): PlannedFunction {
    const inArena = this.#buffers.flatMap((buffer, at) => (buffer.slot ? [] : [at]));
    const { offsets, bytes } = placeBuffers(inArena.map((at) => this.#buffers[at].life));
    const buffers = this.#buffers.map((buffer, at): PlannedBuffer => {
      const base = { name: buffer.name, bytes: buffer.life.bytes };
      const offset = offsets[inArena.indexOf(at)];
      return buffer.slot
        ? { ...base, place: { kind: "slot" } }
        : { ...base, place: { kind: "arena", offset } };
    });
    const inputs = this.#graph.inputs.filter((node) => node.type.dtype !== "cache");
    return {
      name: this.#graph.name,
      buffers,
      steps: withBarriers(this.#drafts, buffers),
      inputs: inputs.map((node) => node.string("name")),
      outputs: this.#graph.outputs.map(({ name, node }) => ({
        name,
        elements: rowsOf(node),
        width: columnsOf(node),
      })),
      arenaBytes: bytes,
    };
  }
}

/** A barrier before each step that reads or writes memory which a step since the last barrier wrote, or writes what one read. */
function withBarriers(drafts: readonly Draft[], buffers: readonly PlannedBuffer[]): Step[] {
  let reads: (number | string)[] = [];
  let writes: (number | string)[] = [];
  const meets = (a: readonly (number | string)[], b: readonly (number | string)[]): boolean =>
    a.some((x) => b.some((y) => sameMemory(x, y, buffers)));
  return drafts.map(({ step, ...own }) => {
    const barrier =
      meets(own.reads, writes) || meets(own.writes, writes) || meets(own.writes, reads);
    reads = barrier ? [...own.reads] : [...reads, ...own.reads];
    writes = barrier ? [...own.writes] : [...writes, ...own.writes];
    return { ...step, barrier };
  });
}

function sameMemory(
  a: number | string,
  b: number | string,
  buffers: readonly PlannedBuffer[],
): boolean {
  if (typeof a === "string" || typeof b === "string" || a === b) return a === b;
  const [first, second] = [buffers[a], buffers[b]];
  if (first.place.kind === "slot" || second.place.kind === "slot") return false;
  const [x, y] = [first.place.offset, second.place.offset];
  return x < y + second.bytes && y < x + first.bytes;
}
