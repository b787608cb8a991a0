import * as fc from "fast-check";
import { expect, it } from "vitest";
import { InputError, ResourceError, TramontaneError } from "../../src/base/errors.ts";
import type { PagedCache } from "../../src/runtime/paged-cache.ts";
import { cacheOf, expectForward, type Memory, Model, noWindow, verify } from "./oracle.ts";

/**
 * The cache against a naive model: each sequence an array of tokens, the device an array of what was written to each slot.
 * Every token is a new number, so a slot that was overwritten, copied too late or reused too early shows.
 */

interface Real {
  readonly cache: PagedCache;
  readonly memory: Memory;
}
type Verdict = "fine" | typeof InputError | typeof ResourceError;

const snapshot = ({ cache }: Real, model: Model): unknown => ({
  available: cache.availablePages,
  total: cache.totalSequenceLength,
  lengths: [...model.sequences.keys()].map((id) => cache.length(id)),
});

/** Runs `call`; expects the verdict, except that pages may always run out. The result, when it went through. */
function attempt<T>(real: Real, model: Model, verdict: Verdict, call: () => T): T | undefined {
  const before = snapshot(real, model);
  try {
    const result = call();
    expect(verdict, "went through").toBe("fine");
    return result;
  } catch (error) {
    if (!(error instanceof TramontaneError)) throw error;
    if (error.code === "no-pages") {
      expect(verdict).toBe("fine");
      expect(error.data.need).toBeGreaterThan(Number(error.data.have));
      expect(error.data.have).toBeGreaterThanOrEqual(real.cache.availablePages);
    } else expect(verdict === "fine" ? error : error.constructor, error.message).toBe(verdict);
    expect(snapshot(real, model)).toEqual(before);
    verify(real.cache);
    return undefined;
  }
}

const isWhole = (value: number, least: number, most: number): boolean =>
  Number.isInteger(value) && value >= least && value <= most;

/** Picks say which sequence is meant when the command runs: 0 … 23 one that is there (or not yet), beyond that any id. */
const picks = 24;
const ids = [0, 1, 2, 3, 4, 5];
function choose(pick: number, among: readonly number[]): number {
  return pick < picks && among.length > 0 ? among[pick % among.length] : pick % ids.length;
}
const old = (model: Model, pick: number): number => choose(pick, [...model.sequences.keys()]);
const fresh = (model: Model, pick: number): number =>
  choose(
    pick,
    ids.filter((id) => !model.sequences.has(id)),
  );

type Command = fc.AsyncCommand<Model, Real>;
const command = (
  name: string,
  run: (model: Model, real: Real) => void | Promise<void>,
): Command => ({
  check: () => true,
  run: async (model, real) => {
    await run(model, real);
    verify(real.cache);
    expect(ids.filter((id) => real.cache.has(id))).toEqual(
      ids.filter((id) => model.sequences.has(id)),
    );
    for (const [id, { tokens }] of model.sequences)
      expect(real.cache.length(id)).toBe(tokens.length);
  },
  toString: () => name,
});

const add = (pick: number): Command =>
  command(`add(${pick})`, (model, real) => {
    const id = fresh(model, pick);
    const full = model.sequences.size >= model.maxBatch;
    const verdict = model.sequences.has(id) ? InputError : full ? ResourceError : "fine";
    attempt(real, model, verdict, () => {
      real.cache.add(id);
      model.sequences.set(id, { tokens: [], window: noWindow, lost: new Set() });
    });
  });

const remove = (pick: number): Command =>
  command(`remove(${pick})`, (model, real) => {
    const id = old(model, pick);
    attempt(real, model, model.sequences.has(id) ? "fine" : InputError, () => {
      real.cache.remove(id);
      model.sequences.delete(id);
    });
  });

/** Positions are drawn as numbers and brought near the length of the sequence that they meet. */
const near = (value: number, length: number): number =>
  Number.isInteger(value) && value >= 0 ? value % (length + 2) : value;

const fork = (pick: number, childPick: number, value: number): Command =>
  command(`fork(${pick}, ${childPick}, ${value})`, (model, real) => {
    const [parent, child] = [old(model, pick), fresh(model, childPick)];
    const sequence = model.sequences.get(parent);
    const position = near(value, sequence?.tokens.length ?? 0);
    let verdict: Verdict = "fine";
    if (sequence === undefined || model.sequences.has(child)) verdict = InputError;
    else if (model.sequences.size >= model.maxBatch) verdict = ResourceError;
    else if (!isWhole(position, 0, sequence.tokens.length)) verdict = InputError;
    else if (!model.canGoOn(sequence, position)) verdict = ResourceError;
    attempt(real, model, verdict, () => {
      real.cache.fork(parent, child, position);
      if (sequence) model.sequences.set(child, model.first(sequence, position));
    });
  });

const cut = (pick: number, value: number, how: "popN" | "truncate"): Command =>
  command(`${how}(${pick}, ${value})`, (model, real) => {
    const id = old(model, pick);
    const sequence = model.sequences.get(id);
    const tokens = sequence?.tokens.length ?? 0;
    const argument = near(value, tokens);
    const length = how === "popN" ? tokens - argument : argument;
    let verdict: Verdict = "fine";
    if (sequence === undefined || !isWhole(length, 0, tokens)) verdict = InputError;
    else if (!model.canGoOn(sequence, length)) verdict = ResourceError;
    const done = attempt(real, model, verdict, () => {
      real.cache[how](id, argument);
      if (sequence) model.sequences.set(id, model.first(sequence, length));
      return true;
    });
    expect(done === true || verdict !== "fine", "cutting needs no pages").toBe(true);
  });

const slide = (pick: number, size: number, sinks: number): Command =>
  command(`enableSlidingWindow(${pick}, ${size}, ${sinks})`, (model, real) => {
    const id = old(model, pick);
    const sequence = model.sequences.get(id);
    const fits = sequence && sequence.window === noWindow && sequence.tokens.length <= size;
    attempt(real, model, fits && sinks < size ? "fine" : InputError, () => {
      real.cache.enableSlidingWindow(id, size, sinks);
      if (sequence) sequence.window = { size, sinks };
    });
  });

type Outcome =
  | "ran"
  | "never sent"
  | "failed after copies"
  | "failed half way"
  | "ran, then aborted";

const forward = (appends: readonly (readonly [number, number])[], outcome: Outcome): Command =>
  command(`forward(${JSON.stringify(appends)}, ${outcome})`, (model, real) => {
    const { cache, memory } = real;
    const among = appends[0][0] < picks ? appends.slice(0, model.sequences.size) : appends;
    const ids = among.map(([pick]) => old(model, pick));
    const lengths = among.map(([, rows]) => rows);
    const rows = lengths.reduce((sum, length) => sum + length, 0);
    const known = ids.every((id) => model.sequences.has(id)) && new Set(ids).size === ids.length;
    let verdict: Verdict = "fine";
    if (!known || ids.length === 0 || !lengths.every((length) => isWhole(length, 1, Infinity)))
      verdict = InputError;
    else if (rows > model.maxRows) verdict = ResourceError;
    const available = cache.availablePages;
    const layout = attempt(real, model, verdict, () => cache.beginForward(ids, lengths));
    if (layout === undefined) return;
    verify(cache);
    const appended = ids.flatMap((id, at) => {
      const sequence = model.sequences.get(id);
      return sequence ? [{ sequence, tokens: model.newTokens(lengths[at]) }] : [];
    });
    const held = appended.map(({ sequence }) => sequence.lost.size);
    for (const { sequence } of appended) model.lose(sequence);
    const passed = appended.some(({ sequence }, at) => sequence.lost.size > held[at]);
    const abandon = (): void => {
      cache.abandonForward();
      if (passed) expect(cache.availablePages).toBeGreaterThanOrEqual(available);
      else expect(cache.availablePages).toBe(available);
    };
    expect([...cache.queryPositions()]).toEqual([...layout.positions]);
    switch (outcome) {
      case "never sent":
        return abandon();
      case "failed after copies":
        memory.copy(layout.copies);
        return abandon();
      case "failed half way":
        memory.write(layout, model.newTokens(Math.ceil(rows / 2)));
        return abandon();
      case "ran, then aborted":
        expectForward(layout, memory, appended);
        return abandon();
      case "ran":
        expectForward(layout, memory, appended);
        cache.endForward();
        for (const { sequence, tokens } of appended) sequence.tokens.push(...tokens);
        return;
      default:
        return outcome satisfies never;
    }
  });

async function expectTokens(model: Model, real: Real, id: number): Promise<void> {
  const { tokens, lost } = model.sequences.get(id) ?? { tokens: [], lost: new Set() };
  const start = Math.max(-1, ...lost) + 1;
  const spans = [[start, tokens.length]];
  if (lost.size > 0) {
    spans.push([0, Math.min(...lost)]);
    await expect(real.cache.debugKV(id, 0, tokens.length)).rejects.toThrow(ResourceError);
  }
  for (const [from, to] of spans) {
    const { keys, values } = await real.cache.debugKV(id, from, to);
    expect([...keys[0]]).toEqual(tokens.slice(from, to));
    expect([...values[1]]).toEqual(tokens.slice(from, to).map((token) => -token - 1));
  }
}

const read = (pick: number): Command =>
  command(`debugKV(${pick})`, async (model, real) => {
    const id = old(model, pick);
    if (model.sequences.has(id)) return await expectTokens(model, real, id);
    await expect(real.cache.debugKV(id, 0, 0)).rejects.toThrow(InputError);
  });

const pick = fc.nat(picks + 1);
const position = fc.oneof(
  { weight: 30, arbitrary: fc.nat(60) },
  { weight: 1, arbitrary: fc.constantFrom(NaN, -1, 1.5, Infinity) },
);
/** Mostly the tail, as speculation does. */
const tail = fc.oneof({ weight: 3, arbitrary: fc.nat(4) }, { weight: 1, arbitrary: position });
const rows = fc.oneof(
  { weight: 20, arbitrary: fc.integer({ min: 1, max: 9 }) },
  { weight: 1, arbitrary: fc.constantFrom(0, NaN, 1.5, 21) },
);
const outcome = fc.oneof(
  { weight: 6, arbitrary: fc.constant<Outcome>("ran") },
  {
    weight: 3,
    arbitrary: fc.constantFrom<Outcome>(
      "never sent",
      "failed after copies",
      "failed half way",
      "ran, then aborted",
    ),
  },
);
const appends = fc
  .tuple(fc.integer({ min: 1, max: 4 }), pick, fc.array(rows, { minLength: 4, maxLength: 4 }))
  .map(([count, first, rows]) =>
    rows.slice(0, count).map((rows, at) => [first + at, rows] as const),
  );
const decode = pick.map((pick) => [[pick, 1]] as const);

const commandOf: readonly fc.WeightedArbitrary<Command>[] = [
  { weight: 1, arbitrary: pick.map(add) },
  { weight: 2, arbitrary: pick.map(remove) },
  { weight: 4, arbitrary: fc.tuple(pick, pick, position).map((args) => fork(...args)) },
  { weight: 3, arbitrary: fc.tuple(pick, tail).map(([pick, count]) => cut(pick, count, "popN")) },
  { weight: 1, arbitrary: fc.tuple(pick, position).map(([pick, at]) => cut(pick, at, "truncate")) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(pick, fc.integer({ min: 1, max: 12 }), fc.nat(5))
      .map((args) => slide(...args)),
  },
  { weight: 8, arbitrary: fc.tuple(appends, outcome).map((args) => forward(...args)) },
  { weight: 4, arbitrary: fc.tuple(decode, outcome).map((args) => forward(...args)) },
  { weight: 1, arbitrary: pick.map(read) },
];
const commands = fc.commands([fc.oneof(...commandOf)], { maxCommands: 100, size: "max" });

for (const [pageTokens, pages] of [
  [4, 40],
  [4, 9],
  [3, 16],
  [1, 30],
] as const)
  it(`agrees with the naive cache: ${pages} pages of ${pageTokens} tokens`, async () => {
    await fc.assert(
      fc.asyncProperty(commands, async (commands) => {
        const model = new Model(pageTokens, 5, 20);
        const real = cacheOf({ pages, pageTokens, maxBatch: 5, maxRows: 20 });
        await add(0).run(model, real);
        await fc.asyncModelRun(() => ({ model, real }), commands);
        for (const id of model.sequences.keys()) await expectTokens(model, real, id);
        real.cache.clear();
        verify(real.cache);
        expect(real.cache.totalSequenceLength).toBe(0);
        expect(real.cache.availablePages).toBe(pages);
      }),
      { numRuns: 150 },
    );
  });
