import { InputError, InternalError, ResourceError, UnsupportedError } from "../base/errors.ts";
import type { CacheStorage } from "../devices/device.ts";
import type { CacheRows } from "../ir/graph.ts";
import type { StepLayout } from "../ir/step-layout.ts";
import { PagePool } from "./page-pool.ts";
import { Sequence } from "./sequence.ts";
import { checkWhole, fullWindow, mostTokens, slidingWindow } from "./window.ts";
import { sinkEnd, sinkPosition, windowStart } from "./window.ts";

export interface CacheOptions {
  readonly pageTokens: number;
  /** Most sequences alive at once. */
  readonly maxBatch: number;
  /** Most rows of one forward. */
  readonly maxRows: number;
  readonly supportSlidingWindow: boolean;
}

/** Keys and values as the device holds them, per layer [tokens, kvHeads × headDim]. */
export type CacheDump = { readonly [Part in keyof CacheRows]: readonly Float32Array[] };

type Sequences = ReadonlyMap<number, Sequence>;
/** A forward in progress: where its rows go, and the sequences of the cache when it has run. */
type Forward = { readonly layout: StepLayout; readonly after: Sequences };
/** Why nothing else can be done. */
const reasons = {
  forward: "a forward is in progress; call endForward or abandonForward first",
  reading: "debugKV is reading; await it first",
  disposed: "the cache was disposed of",
} as const;

/**
 * The host side of the paged KV cache (DESIGN §4): sequences by id, and where the tokens of a forward go. All operations are
 * transactional: what throws has changed nothing. Between `beginForward` and `endForward` or `abandonForward`, and while
 * `debugKV` reads, there are no others.
 */
export class PagedCache implements Disposable {
  readonly storage: CacheStorage;
  readonly options: CacheOptions;
  #sequences: Sequences = new Map();
  #state: Forward | "idle" | "reading" | "disposed" = "idle";

  constructor(storage: CacheStorage, options: CacheOptions) {
    for (const name of ["pageTokens", "maxBatch", "maxRows"] as const)
      checkWhole(name, options[name], 1, mostTokens);
    checkWhole("pages", storage.pages, 1, Math.floor(mostTokens / options.pageTokens));
    this.storage = storage;
    this.options = options;
  }

  /** By id, with what a forward in progress has taken. */
  get sequences(): Sequences {
    return typeof this.#state === "object" ? this.#state.after : this.#sequences;
  }

  has(id: number): boolean {
    return this.#sequences.has(id);
  }

  /** Tokens of a sequence; those of a forward in progress do not count yet. */
  length(id: number): number {
    return this.#sequence(id).length;
  }

  /** Free pages. What windows have passed is freed by the next forward. */
  get availablePages(): number {
    return new PagePool(this.storage.pages, this.sequences.values()).free.length;
  }

  /** Tokens stored; those in shared pages count once. */
  get totalSequenceLength(): number {
    const filled = new Int32Array(this.storage.pages);
    for (const sequence of this.#sequences.values()) sequence.raise(filled);
    return filled.reduce((sum, tokens) => sum + tokens, 0);
  }

  add(id: number): void {
    this.#requireIdle("add");
    this.#checkNew(id);
    this.#sequences = this.#with([id], [new Sequence(this.options.pageTokens)]);
  }

  remove(id: number): void {
    this.#sequence(id, "remove");
    this.#sequences = new Map([...this.#sequences].filter(([other]) => other !== id));
  }

  /** The child starts as the parent's first `position` tokens in the same pages; a partial one is copied when it goes on. */
  fork(parent: number, child: number, position: number = this.length(parent)): void {
    const sequence = this.#sequence(parent, "fork");
    this.#checkNew(child);
    checkWhole("fork: position", position, 0, sequence.length);
    this.#sequences = this.#with([child], [sequence.first(position)]);
  }

  /** Removes the last `tokens` tokens. */
  popN(id: number, tokens: number): void {
    const { length } = this.#sequence(id, "popN");
    checkWhole("popN: tokens", tokens, 0, length);
    this.truncate(id, length - tokens);
  }

  /** Keeps the first `length` tokens. */
  truncate(id: number, length: number): void {
    const sequence = this.#sequence(id, "truncate");
    checkWhole("truncate: length", length, 0, sequence.length);
    if (length === sequence.length) return;
    this.#sequences = this.#with([id], [sequence.first(length)]);
  }

  /** From now on tokens see `sinks` first tokens and the last `size` − `sinks`; once, while nothing is out of the window. */
  enableSlidingWindow(id: number, size: number, sinks: number): void {
    const sequence = this.#sequence(id, "enableSlidingWindow");
    const window = slidingWindow(size, sinks);
    const { length } = sequence;
    const refuse = (code: string, problem: string): InputError =>
      new InputError(code, `sequence ${id} ${problem}`, { id, length, size });
    if (!this.options.supportSlidingWindow)
      throw refuse("window-off", "is in a cache that was created without support for windows");
    if (sequence.window !== fullWindow) throw refuse("window-set", "has a window already");
    const excess = `has ${length} tokens, more than the window of ${size}`;
    if (length > size) throw refuse("window-late", `${excess}; enable the window before`);
    this.#sequences = this.#with([id], [sequence.with({ window })]);
  }

  /**
   * Reserves slots for the next tokens of the sequences and says where everything is. Rows of all sequences are concatenated
   * in the order of ids. Pages that the windows have passed go back first, by the lengths before this forward.
   */
  beginForward(
    ids: readonly number[],
    appendLengths: readonly number[],
    tokenTreeParents?: readonly (readonly number[])[],
  ): StepLayout {
    this.#requireIdle("beginForward");
    if (tokenTreeParents !== undefined) throw noTokenTrees();
    this.#checkAppended(ids, appendLengths);
    const held = ids.map((id) => this.#sequence(id).withoutPassed());
    const before = this.#with(ids, held);
    const pool = new PagePool(this.storage.pages, before.values());
    const after = held.map((sequence, at) => sequence.grown(appendLengths[at], pool));
    pool.check("beginForward");
    const layout = layoutStep(after, appendLengths, pool.copies);
    this.#state = { layout, after: this.#with(ids, after) };
    this.#sequences = before;
    return layout;
  }

  /** The step ran: its tokens count. */
  endForward(): void {
    this.#sequences = this.#forward("endForward").after;
    this.#state = "idle";
  }

  /** The step failed or was abandoned: its pages go back. Only the pages that the windows had passed stay released. */
  abandonForward(): void {
    this.#forward("abandonForward");
    this.#state = "idle";
  }

  commitTokenTree(_ids: readonly number[], _leaves: readonly number[]): void {
    throw noTokenTrees();
  }

  /** The layout of the forward in progress. */
  get layout(): StepLayout {
    return this.#forward("layout").layout;
  }

  /** Positions of the rows of the forward in progress. */
  queryPositions(): Int32Array {
    return this.#forward("queryPositions").layout.positions;
  }

  /** Keys and values of the tokens [start, end), as rounded by the cache; keys are turned at their positions. */
  async debugKV(id: number, start: number, end: number): Promise<CacheDump> {
    const sequence = this.#sequence(id, "debugKV");
    checkWhole("debugKV: end", end, 0, sequence.length);
    checkWhole("debugKV: start", start, 0, end);
    sequence.checkHeld(start, end);
    const slots = Int32Array.from({ length: end - start }, (_, at) => sequence.slotOf(start + at));
    this.#state = "reading";
    try {
      const layers = await this.storage.read(slots);
      return { keys: layers.map(({ keys }) => keys), values: layers.map(({ values }) => values) };
    } finally {
      if (this.#state === "reading") this.#state = "idle";
    }
  }

  /** Removes all sequences, and the forward in progress. */
  clear(): void {
    if (typeof this.#state === "object") this.#state = "idle";
    this.#requireIdle("clear");
    this.#sequences = new Map();
  }

  [Symbol.dispose](): void {
    if (this.#state === "disposed") return;
    this.#state = "disposed";
    this.#sequences = new Map();
    this.storage.dispose();
  }

  /** The sequence of this id, for `what`, which wants the cache idle. */
  #sequence(id: number, what?: string): Sequence {
    if (what !== undefined) this.#requireIdle(what);
    const sequence = this.#sequences.get(id);
    if (sequence !== undefined) return sequence;
    throw new InputError("unknown-sequence", `no sequence has the id ${id}; add it first`, { id });
  }

  #with(ids: readonly number[], sequences: readonly Sequence[]): Sequences {
    return new Map([...this.#sequences, ...ids.map((id, at) => [id, sequences[at]] as const)]);
  }

  #requireIdle(what: string): void {
    const state = typeof this.#state === "object" ? "forward" : this.#state;
    if (state !== "idle") throw new InternalError(`cache-${state}`, `${what}: ${reasons[state]}`);
  }

  #forward(what: string): Forward {
    if (typeof this.#state === "object") return this.#state;
    const problem = "no forward is in progress; call beginForward first";
    throw new InternalError("no-forward", `${what}: ${problem}`);
  }

  #checkNew(id: number): void {
    checkWhole("sequence id", id, 0, Number.MAX_SAFE_INTEGER);
    if (this.has(id))
      throw new InputError("known-sequence", `a sequence has the id ${id} already`, { id });
    const { maxBatch } = this.options;
    if (this.#sequences.size < maxBatch) return;
    const problem = `the cache has room for ${maxBatch} sequences; remove one first, or raise maxBatch`;
    throw new ResourceError("too-many-sequences", problem, { maxBatch });
  }

  #checkAppended(ids: readonly number[], lengths: readonly number[]): void {
    const expected = "expected one append length for each of at least one id";
    const got = `${ids.length} ids and ${lengths.length} lengths`;
    if (ids.length === 0 || ids.length !== lengths.length)
      throw new InputError("append-lengths", `beginForward: ${expected}, got ${got}`);
    if (new Set(ids).size < ids.length)
      throw new InputError("append-twice", `beginForward: an id is named twice in [${ids.join()}]`);
    for (const length of lengths) checkWhole("beginForward: append length", length, 1, mostTokens);
    const rows = lengths.reduce((sum, length) => sum + length, 0);
    const { maxRows } = this.options;
    if (ids.some((id) => this.length(id) + rows > mostTokens))
      throw new ResourceError("too-long", `beginForward: a sequence ends at ${mostTokens} tokens`);
    if (rows <= maxRows) return;
    const problem = `${rows} rows, a forward has ${maxRows} at most; append in several forwards`;
    throw new ResourceError("too-many-rows", `beginForward: ${problem}`, { rows, maxRows });
  }
}

const noTokenTrees = (): UnsupportedError =>
  new UnsupportedError("token-tree", "token trees are not supported by this cache; append chains");

/** Says where the rows of a forward go and what they see: the last `rows[i]` tokens of sequence i. */
function layoutStep(sequences: readonly Sequence[], rows: readonly number[], copies: number[]) {
  const places: { sequence: Sequence; position: number; table: number }[] = [];
  const pageTable: number[] = [];
  const lastRows = sequences.map((sequence, at) => {
    const table = pageTable.length;
    for (let position = sequence.length - rows[at]; position < sequence.length; position++)
      places.push({ sequence, position, table });
    for (const page of sequence.pages) pageTable.push(page);
    return places.length - 1;
  });
  const column = (value: (place: (typeof places)[number]) => number): Int32Array =>
    Int32Array.from(places, value);
  return {
    rows: places.length,
    positions: column(({ position }) => position),
    slots: column(({ sequence, position }) => sequence.slotOf(position)),
    sinkPositions: column(({ sequence, position }) => sinkPosition(sequence.window, position)),
    sinkEnds: column(({ sequence, position }) => sinkEnd(sequence.window, position)),
    windowStarts: column(({ sequence, position }) => windowStart(sequence.window, position)),
    sinkTables: column(({ table }) => table),
    windowTables: column(({ table, sequence }) => table - sequence.passed),
    pageTable: Int32Array.from(pageTable),
    lastRows: Int32Array.from(lastRows),
    copies: Int32Array.from(copies),
  };
}
