import { InputError, InternalError, ResourceError, UnsupportedError } from "../base/errors.ts";
import { checkNumber } from "../base/limits.ts";
import type { CacheRows, CacheStorage, DeviceModel } from "../devices/device.ts";
import type { StepLayout } from "../ir/step-layout.ts";
import { PagePool } from "./page-pool.ts";
import { Sequence, type Growth } from "./sequence.ts";
import { layoutStep } from "./step-layout.ts";
import { fullWindow, mostTokens, slidingWindow } from "./window.ts";

export interface CacheOptions {
  readonly pages: number;
  readonly pageTokens: number;
  /** Most sequences alive at once. */
  readonly maxBatch: number;
  /** Most rows of one forward. */
  readonly maxRows: number;
  readonly supportSlidingWindow: boolean;
}

/** Keys and values as the device holds them, per layer [tokens, kvHeads × headDim]. */
export interface CacheDump {
  readonly keys: readonly Float32Array[];
  readonly values: readonly Float32Array[];
}

interface Forward {
  readonly layout: StepLayout;
  readonly growths: readonly Growth[];
}
/** Why nothing else can be done. */
const reasons = {
  forward: "a forward is in progress; call endForward or abandonForward first",
  reading: "debugKV is reading; await it first",
  disposed: "the cache was disposed of",
} as const;

type CacheDevice = Pick<DeviceModel, "readCache" | "copyPages">;

/**
 * The host side of the paged KV cache (DESIGN §4): sequences by id, and where the tokens of a forward go. All operations are
 * transactional: what throws has changed nothing. Between `beginForward` and `endForward` or `abandonForward`, and while
 * `debugKV` reads, there are no others.
 */
export class PagedCache implements Disposable {
  readonly storage: CacheStorage;
  readonly options: CacheOptions;
  readonly #device: CacheDevice;
  readonly #layers: number;
  readonly #pool: PagePool;
  readonly #sequences = new Map<number, Sequence>();
  #state: Forward | "idle" | "reading" | "disposed" = "idle";

  constructor(storage: CacheStorage, device: CacheDevice, layers: number, options: CacheOptions) {
    const { pages, pageTokens, maxBatch, maxRows } = options;
    checkWhole("pageTokens", pageTokens, 1);
    checkWhole("maxBatch", maxBatch, 1);
    checkWhole("maxRows", maxRows, 1);
    checkWhole("pages", pages, 1, Math.min(storage.pages, Math.floor(mostTokens / pageTokens)));
    this.storage = storage;
    this.options = options;
    this.#device = device;
    this.#layers = layers;
    this.#pool = new PagePool(pages, pageTokens);
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
    return this.#pool.available;
  }

  /** Tokens stored; those in shared pages count once. */
  get totalSequenceLength(): number {
    const filled = new Int32Array(this.#pool.pages);
    for (const sequence of this.#sequences.values()) sequence.raise(filled);
    return filled.reduce((sum, tokens) => sum + tokens, 0);
  }

  add(id: number): void {
    this.#requireIdle("add");
    this.#checkNew(id);
    this.#sequences.set(id, new Sequence(this.#pool));
  }

  remove(id: number): void {
    this.#idleSequence("remove", id).cut(0);
    this.#sequences.delete(id);
  }

  /** The child starts as the parent's first `position` tokens: full pages are shared, a partial one is copied. */
  fork(parent: number, child: number, position: number = this.length(parent)): void {
    const sequence = this.#idleSequence("fork", parent);
    this.#checkNew(child);
    checkWhole("fork: position", position, 0, sequence.length);
    sequence.checkCut(position);
    this.#checkPages("fork", position % this.options.pageTokens > 0 ? 1 : 0, this.availablePages);
    this.#sequences.set(child, sequence.fork(position));
  }

  /** Removes the last `tokens` tokens. */
  popN(id: number, tokens: number): void {
    const { length } = this.#idleSequence("popN", id);
    checkWhole("popN: tokens", tokens, 0, length);
    this.truncate(id, length - tokens);
  }

  /** Keeps the first `length` tokens. */
  truncate(id: number, length: number): void {
    const sequence = this.#idleSequence("truncate", id);
    checkWhole("truncate: length", length, 0, sequence.length);
    sequence.checkCut(length);
    sequence.cut(length);
  }

  /** From now on tokens see `sinks` first tokens and the last `size` − `sinks`; once, while nothing is out of the window. */
  enableSlidingWindow(id: number, size: number, sinks: number): void {
    const sequence = this.#idleSequence("enableSlidingWindow", id);
    const window = slidingWindow(size, sinks);
    const { length } = sequence;
    const refuse = (code: string, problem: string): InputError =>
      new InputError(code, problem, { id, length, size });
    if (!this.options.supportSlidingWindow)
      throw refuse("window-off", "the cache was created without support for windows");
    if (sequence.window !== fullWindow)
      throw refuse("window-set", `sequence ${id} has a window already`);
    if (length > size)
      throw refuse(
        "window-late",
        `sequence ${id} has ${length} tokens, more than the window of ${size}; enable the window before`,
      );
    sequence.window = window;
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
    const growths = this.#growths(ids, appendLengths);
    const copied = growths.filter(({ sharedTail }) => sharedTail !== undefined).length;
    const need = growths.reduce((sum, { fresh }) => sum + fresh, copied);
    const freed = this.#pool.freedBy(growths.flatMap(({ passed }) => passed));
    this.#checkPages("beginForward", need, this.availablePages + freed);
    for (const growth of growths) growth.sequence.releasePassed(growth);
    for (const growth of growths) growth.sequence.grow(growth);
    const layout = layoutStep(growths, this.#pool.copies());
    this.#state = { layout, growths };
    return layout;
  }

  /** The step ran: its tokens count. */
  endForward(): void {
    for (const growth of this.#forward("endForward").growths) growth.sequence.commit(growth);
    this.#pool.copiesDone();
    this.#state = "idle";
  }

  /**
   * The step failed or was abandoned: its pages go back, copies wait for the next one. Only the pages that the windows had
   * passed stay released.
   */
  abandonForward(): void {
    for (const growth of this.#forward("abandonForward").growths) growth.sequence.undo(growth);
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
    const sequence = this.#idleSequence("debugKV", id);
    checkWhole("debugKV: end", end, 0, sequence.length);
    checkWhole("debugKV: start", start, 0, end);
    sequence.checkHeld(start, end);
    const slots = Int32Array.from({ length: end - start }, (_, at) => sequence.slotOf(start + at));
    this.#state = "reading";
    try {
      const copies = this.#pool.copies();
      if (copies.length > 0) await this.#device.copyPages(this.storage, copies);
      this.#pool.copiesDone();
      const layers: CacheRows[] = [];
      for (let layer = 0; layer < this.#layers; layer++)
        layers.push(await this.#device.readCache(this.storage, layer, slots));
      return { keys: layers.map(({ keys }) => keys), values: layers.map(({ values }) => values) };
    } finally {
      if (this.#state === "reading") this.#state = "idle";
    }
  }

  /** Removes all sequences, and the forward in progress. */
  clear(): void {
    if (typeof this.#state === "object") this.abandonForward();
    this.#requireIdle("clear");
    for (const id of this.#sequences.keys()) this.remove(id);
  }

  /** Throws an InternalError unless the holders of every page are those that the pool has counted. */
  verify(): void {
    this.#pool.verify([...this.#sequences.values()].flatMap(({ pages }) => pages));
  }

  [Symbol.dispose](): void {
    if (this.#state === "disposed") return;
    this.#state = "disposed";
    this.#sequences.clear();
    this.storage.dispose();
  }

  #sequence(id: number): Sequence {
    const sequence = this.#sequences.get(id);
    if (sequence !== undefined) return sequence;
    throw new InputError("unknown-sequence", `no sequence has the id ${id}; add it first`, { id });
  }

  #idleSequence(what: string, id: number): Sequence {
    this.#requireIdle(what);
    return this.#sequence(id);
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

  #growths(ids: readonly number[], lengths: readonly number[]): Growth[] {
    if (ids.length === 0 || ids.length !== lengths.length)
      throw new InputError(
        "append-lengths",
        `beginForward: expected one append length for each of at least one id, got ${ids.length} ids and ${lengths.length} lengths`,
      );
    if (new Set(ids).size < ids.length)
      throw new InputError("append-twice", `beginForward: an id is named twice in [${ids.join()}]`);
    for (const length of lengths) checkWhole("beginForward: append length", length, 1);
    const growths = ids.map((id, at) => this.#sequence(id).growth(lengths[at]));
    const rows = lengths.reduce((sum, length) => sum + length, 0);
    const { maxRows } = this.options;
    if (rows > maxRows)
      throw new ResourceError(
        "too-many-rows",
        `beginForward: ${rows} rows, a forward has ${maxRows} at most; append in several forwards`,
        { rows, maxRows },
      );
    if (growths.some(({ sequence }) => sequence.length + rows > mostTokens))
      throw new ResourceError("too-long", `beginForward: a sequence ends at ${mostTokens} tokens`);
    return growths;
  }

  #checkPages(what: string, need: number, have: number): void {
    if (need <= have) return;
    throw new ResourceError(
      "no-pages",
      `${what}: ${need} pages are needed, ${have} are free; remove or truncate sequences, append less, or create a larger cache`,
      { need, have, pageTokens: this.options.pageTokens },
    );
  }
}

const checkWhole = (
  what: string,
  value: number,
  least: number,
  most: number = mostTokens,
): number => checkNumber(what, value, { least, most, whole: true });

const noTokenTrees = (): UnsupportedError =>
  new UnsupportedError("token-tree", "token trees are not supported by this cache; append chains");
