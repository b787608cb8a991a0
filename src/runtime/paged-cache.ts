import { InputError, InternalError, ResourceError, UnsupportedError } from "../base/errors.ts";
import type { CacheStorage, DeviceModel } from "../devices/device.ts";
import type { StepLayout } from "../ir/step-layout.ts";
import { PagePool } from "./page-pool.ts";
import { Sequence } from "./sequence.ts";
import { layoutStep, type Appended } from "./step-layout.ts";
import { slidingWindow } from "./window.ts";

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

type State =
  | { readonly kind: "idle" }
  | {
      readonly kind: "forward";
      readonly layout: StepLayout;
      readonly sequences: readonly Sequence[];
    }
  | { readonly kind: "reading" }
  | { readonly kind: "disposed" };
const idle: State = { kind: "idle" };

/** Positions are i32 in the tables of a step. */
const mostTokens = 2 ** 31 - 1;

/**
 * The host side of the paged KV cache (DESIGN §4): sequences by id, and where the tokens of a forward go. All operations are
 * transactional: what throws has changed nothing. Between `beginForward` and `endForward` or `abandonForward`, and while
 * `debugKV` reads, there are no others.
 */
export class PagedCache implements Disposable {
  readonly storage: CacheStorage;
  readonly options: CacheOptions;
  readonly #device: Pick<DeviceModel, "readCache" | "copyPages">;
  readonly #layers: number;
  readonly #pool: PagePool;
  readonly #sequences = new Map<number, Sequence>();
  #state: State = idle;

  constructor(
    storage: CacheStorage,
    device: Pick<DeviceModel, "readCache" | "copyPages">,
    layers: number,
    options: CacheOptions,
  ) {
    const { pages, pageTokens, maxBatch, maxRows } = options;
    for (const [name, value] of Object.entries({ pages, pageTokens, maxBatch, maxRows }))
      checkWhole(name, value, 1, mostTokens);
    checkWhole("pages", pages, 1, Math.min(storage.pages, Math.floor(mostTokens / pageTokens)));
    this.storage = storage;
    this.options = options;
    this.#device = device;
    this.#layers = layers;
    this.#pool = new PagePool(pages);
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
    this.#sequences.set(id, new Sequence(this.#pool, this.options.pageTokens));
  }

  remove(id: number): void {
    this.#requireIdle("remove");
    this.#sequence(id).releaseAll();
    this.#sequences.delete(id);
  }

  /** The child starts as the parent's first `position` tokens: full pages are shared, a partial one is copied. */
  fork(parent: number, child: number, position: number = this.length(parent)): void {
    this.#requireIdle("fork");
    const sequence = this.#sequence(parent);
    this.#checkNew(child);
    checkWhole("fork: position", position, 0, sequence.length);
    sequence.checkCut(position);
    this.#checkPages("fork", position % this.options.pageTokens > 0 ? 1 : 0, this.availablePages);
    this.#sequences.set(child, sequence.fork(position));
  }

  /** Removes the last `tokens` tokens. */
  popN(id: number, tokens: number): void {
    this.#requireIdle("popN");
    const { length } = this.#sequence(id);
    checkWhole("popN: tokens", tokens, 0, length);
    this.truncate(id, length - tokens);
  }

  /** Keeps the first `length` tokens. */
  truncate(id: number, length: number): void {
    this.#requireIdle("truncate");
    const sequence = this.#sequence(id);
    checkWhole("truncate: length", length, 0, sequence.length);
    sequence.checkCut(length);
    sequence.cut(length);
  }

  /** From now on tokens see `sinks` first tokens and the last `size` − `sinks`; once, while nothing is out of the window. */
  enableSlidingWindow(id: number, size: number, sinks: number): void {
    this.#requireIdle("enableSlidingWindow");
    if (!this.options.supportSlidingWindow)
      throw new InputError("window-off", "the cache was created without support for windows");
    const sequence = this.#sequence(id);
    const window = slidingWindow(size, sinks);
    if (sequence.window.kind === "sliding")
      throw new InputError("window-set", `sequence ${id} has a window already`, { id });
    if (sequence.length > size)
      throw new InputError(
        "window-late",
        `sequence ${id} has ${sequence.length} tokens, more than the window of ${size}; enable the window before`,
        { id, length: sequence.length, size },
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
    const appended = this.#appended(ids, appendLengths);
    const demands = appended.map(({ sequence, rows }) => sequence.demand(rows));
    const need = demands.reduce((sum, { pages }) => sum + pages, 0);
    const freed = this.#pool.freedBy(demands.flatMap(({ passed }) => passed));
    this.#checkPages("beginForward", need, this.availablePages + freed);
    appended.forEach(({ sequence }, at) => sequence.releasePassed(demands[at]));
    appended.forEach(({ sequence }, at) => sequence.grow(demands[at]));
    const layout = layoutStep(appended, this.#pool.copies());
    const sequences = appended.map(({ sequence }) => sequence);
    this.#state = { kind: "forward", layout, sequences };
    return layout;
  }

  /** The step ran: its tokens count. */
  endForward(): void {
    for (const sequence of this.#forward("endForward").sequences) sequence.commit();
    this.#pool.copiesDone();
    this.#state = idle;
  }

  /**
   * The step failed or was abandoned: its pages go back, copies wait for the next one. Only the pages that the windows had
   * passed stay released.
   */
  abandonForward(): void {
    for (const sequence of this.#forward("abandonForward").sequences) sequence.undo();
    this.#state = idle;
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
    this.#requireIdle("debugKV");
    const sequence = this.#sequence(id);
    checkWhole("debugKV: end", end, 0, sequence.length);
    checkWhole("debugKV: start", start, 0, end);
    sequence.checkHeld(start, end);
    const slots = Int32Array.from({ length: end - start }, (_, at) => sequence.slotOf(start + at));
    const reading: State = { kind: "reading" };
    this.#state = reading;
    try {
      const copies = this.#pool.copies();
      if (copies.length > 0) await this.#device.copyPages(this.storage, copies);
      this.#pool.copiesDone();
      const keys: Float32Array[] = [];
      const values: Float32Array[] = [];
      for (let layer = 0; layer < this.#layers; layer++) {
        const rows = await this.#device.readCache(this.storage, layer, slots);
        keys.push(rows.keys);
        values.push(rows.values);
      }
      return { keys, values };
    } finally {
      if (this.#state === reading) this.#state = idle;
    }
  }

  /** Removes all sequences, and the forward in progress. */
  clear(): void {
    if (this.#state.kind === "forward") this.abandonForward();
    this.#requireIdle("clear");
    for (const id of this.#sequences.keys()) this.remove(id);
  }

  /** Throws an InternalError unless the holders of every page are those that the pool has counted. */
  verify(): void {
    this.#pool.verify([...this.#sequences.values()].flatMap(({ pages }) => pages));
  }

  [Symbol.dispose](): void {
    if (this.#state.kind === "disposed") return;
    this.#state = { kind: "disposed" };
    this.#sequences.clear();
    this.storage.dispose();
  }

  #sequence(id: number): Sequence {
    const sequence = this.#sequences.get(id);
    if (sequence === undefined)
      throw new InputError("unknown-sequence", `no sequence has the id ${id}; add it first`, {
        id,
      });
    return sequence;
  }

  #checkNew(id: number): void {
    checkWhole("sequence id", id, 0, Number.MAX_SAFE_INTEGER);
    if (this.has(id))
      throw new InputError("known-sequence", `a sequence has the id ${id} already`, { id });
    const { maxBatch } = this.options;
    if (this.#sequences.size >= maxBatch)
      throw new ResourceError(
        "too-many-sequences",
        `the cache has room for ${maxBatch} sequences; remove one first, or raise maxBatch`,
        { maxBatch },
      );
  }

  #appended(ids: readonly number[], lengths: readonly number[]): Appended[] {
    if (ids.length === 0 || ids.length !== lengths.length)
      throw new InputError(
        "append-lengths",
        `beginForward: expected one append length for each of at least one id, got ${ids.length} ids and ${lengths.length} lengths`,
      );
    if (new Set(ids).size < ids.length)
      throw new InputError("append-twice", `beginForward: an id is named twice in [${ids.join()}]`);
    const appended = ids.map((id, at) => ({ sequence: this.#sequence(id), rows: lengths[at] }));
    for (const { rows } of appended) checkWhole("beginForward: append length", rows, 1, Infinity);
    const rows = appended.reduce((sum, { rows }) => sum + rows, 0);
    const { maxRows } = this.options;
    if (rows > maxRows)
      throw new ResourceError(
        "too-many-rows",
        `beginForward: ${rows} rows, a forward has ${maxRows} at most; append in several forwards`,
        { rows, maxRows },
      );
    for (const { sequence } of appended)
      if (sequence.length + rows > mostTokens)
        throw new ResourceError(
          "too-long",
          `beginForward: a sequence ends at ${mostTokens} tokens`,
        );
    return appended;
  }

  #checkPages(what: string, need: number, have: number): void {
    if (need <= have) return;
    throw new ResourceError(
      "no-pages",
      `${what}: ${need} pages are needed, ${have} are free; remove or truncate sequences, append less, or create a larger cache`,
      { need, have, pageTokens: this.options.pageTokens },
    );
  }

  #requireIdle(what: string): void {
    const { kind } = this.#state;
    if (kind === "idle") return;
    const reasons = {
      forward: "a forward is in progress; call endForward or abandonForward first",
      reading: "debugKV is reading; await it first",
      disposed: "the cache was disposed of",
    } as const;
    throw new InternalError(`cache-${kind}`, `${what}: ${reasons[kind]}`);
  }

  #forward(what: string): Extract<State, { kind: "forward" }> {
    if (this.#state.kind === "forward") return this.#state;
    throw new InternalError(
      "no-forward",
      `${what}: no forward is in progress; call beginForward first`,
    );
  }
}

const noTokenTrees = (): UnsupportedError =>
  new UnsupportedError("token-tree", "token trees are not supported by this cache; append chains");

function checkWhole(what: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  const range = most === Infinity ? `≥ ${least}` : `from ${least} to ${most}`;
  throw new InputError("out-of-range", `${what}: expected an integer ${range}, got ${value}`, {
    least,
    most,
  });
}
