import { i32, integers, type Body, type Expr, type I32 } from "../codegen/wasm/builder.ts";
import type { FuncRef, Local, Locals, WasmModule } from "../codegen/wasm/builder.ts";
import { Node } from "../ir/graph.ts";
import { controlWords, type Argument, type Call, type RowCount } from "../plan/plan.ts";
import type { Lowering, StepDraft } from "./kernel.ts";

/** Locals by the names of parameters: "x y" gives { x, y }. */
export type Named<Names extends string> = Locals<ReturnType<typeof integers<Names>>>;

/** A function that is being built. */
export interface Func<Names extends string> {
  readonly module: WasmModule;
  readonly body: Body;
  readonly p: Named<Names>;
}
/** Adds a function to the module of its caller, whose code depends on the same spec. */
export type Emit<Spec> = (caller: Spec & Pick<Func<never>, "module">) => FuncRef<"void">;

/**
 * A function of i32s that only programs of the same module call; `names` are those of its parameters. Two of one name and mark are
 * one, so all that its code depends on is in these.
 */
export const internal =
  <Spec extends { readonly mark: string }, const Names extends string>(
    name: string,
    names: Names,
    build: (code: Spec & Func<Names>) => void,
  ): Emit<Spec> =>
  (caller) => {
    const { module, mark } = caller;
    const key = `${name} ${mark}`;
    const emit = (p: Named<Names>, body: Body): void => build({ ...caller, body, p });
    return module.once(key, () =>
      module.func(key, integers(names), "void", emit, { export: false }),
    );
  };

/** What a program is called with: the address of a value, a constant, or what is known when the step runs. */
export type Given = Node | number | Argument;

/** The parameters of a program: what it is given, and what each thread knows. */
export type ProgramNames<Names extends string> = Names | typeof ofThread;
const ofThread = "thread threads scratch";

/** A call of a program whose parameters are the keys of `given`; all else that its code depends on is in its name. */
export function callOf<Name extends string>(
  at: Lowering,
  name: string,
  given: Readonly<Record<Name, Given>>,
  build: (code: Func<ProgramNames<Name>>) => void,
): Call {
  const program = at.program(name, (module) => {
    const params = integers(`${Object.keys(given).join(" ")} ${ofThread}` as ProgramNames<Name>);
    module.func(name, params, "void", (p, body) => build({ module, body, p }));
  });
  const args = Object.values<Given>(given).map((value): Argument => {
    if (typeof value === "number") return { kind: "constant", value };
    return value instanceof Node ? at.address(value) : value;
  });
  return { program, args };
}

/**
 * Up to so many rows are few: weights are unpacked in registers, once a row, and attention is shared out by spans of keys. More are
 * many: weights go into panels, once for all rows, and attention is shared out by blocks of rows.
 */
export const fewRows = 3;
export type RowsKind = "few" | "many";
const unlimited = Number.MAX_SAFE_INTEGER;

/** A step that makes the same calls for any number of rows. */
export function stepOf(name: string, rows: RowCount, ...calls: readonly Call[]): StepDraft {
  return { name, rows, variants: [{ maxRows: unlimited, calls }] };
}

type Calls = Readonly<Partial<Record<RowsKind, readonly Call[]>>>;
/** A step of different calls for few rows and for many; where it has none, other steps do its work. */
export function stepFor(name: string, rows: RowCount, { few = [], many = [] }: Calls): StepDraft {
  const rest = { maxRows: unlimited, calls: many };
  return { name, rows, variants: [{ maxRows: fewRows, calls: few }, rest] };
}

/** The parameters of a program that threads share by rows. */
export type RowParams<Name extends string> = Named<ProgramNames<RowName<Name>>>;
type RowName<Name extends string> = Name | "rows" | "sharing";

/** Parts of a row that a thread is to do. */
export type Parts = Named<"begin end">;

/**
 * What a thread does of rows that are made of parts: `rows`: a share of the rows, or, where there are fewer of them than threads,
 * of the parts of each; `parts`: a share of the parts of each; `own`: everything.
 */
export type Sharing = keyof typeof sharings;
const sharings = { rows: 0, parts: 1, own: 2 } as const;

/**
 * A call of a program that does `each` for every row, which may have several parts. The keys of `given` are its parameters; all else
 * that its code depends on is in its name.
 */
export function rowCall<Name extends string>(
  at: Lowering,
  name: string,
  { rows, parts = 1, sharing = "rows" }: { rows: RowCount; parts?: number; sharing?: Sharing },
  given: Readonly<Record<Name, Given>>,
  each: (body: Body, row: Local<"i32">, p: RowParams<Name>, parts: Parts) => void,
): Call {
  const all = { ...given, rows, sharing: sharings[sharing] } as Record<RowName<Name>, Given>;
  return callOf(at, name, all, ({ body, p }) => {
    const [mine, within] = shareRows(body, p, parts);
    body.for(mine.begin, mine.end, 1, (row) => each(body, row, p, within));
  });
}

/** The rows of a thread, and what it does of each. */
function shareRows(body: Body, p: RowParams<never>, parts: number): Parts[] {
  const [rows, within] = [p.rows, i32.const(parts)].map((end): Parts => ({
    begin: body.local(i32.const(0)),
    end: body.local(end),
  }));
  const take =
    ({ begin, end }: Parts) =>
    (): void => {
      const mine = share(body, end, p.thread, p.threads);
      begin.set(mine.begin);
      end.set(mine.end);
    };
  const byParts = parts === 1 ? p.sharing : i32.or(p.sharing, i32.lt_s(p.rows, p.threads));
  body.if(i32.lt_s(p.sharing, sharings.own), () => body.if(byParts, take(within), take(rows)));
  return [rows, within];
}

/** thread's share of `count` things: [begin, end). */
export function share(body: Body, count: I32, thread: I32, threads: I32): Parts {
  const begin = body.local(i32.div_u(i32.mul(count, thread), threads));
  const end = body.local(i32.div_u(i32.mul(count, i32.add(thread, 1)), threads));
  return { begin, end };
}

/** The next number, from 0 on, that no thread has taken since the last barrier. */
export const nextTicket = (): Expr<"i32"> =>
  i32["atomic.rmw.add"](i32.const(controlWords.tickets), 1);

/**
 * Runs `each` for a thread's ticket and those that it takes after it, up to `end` − 1: the next one when it is done with the one
 * before, so that all threads end at the same time, however fast each is. What comes behind goes on with the ticket that is left.
 * Steps that take tickets say so (`Lowering.takeTurns`).
 */
export const forTickets = (body: Body, ticket: Local<"i32">, end: I32, each: () => void): void =>
  body.while(i32.lt_u(ticket, end), () => {
    each();
    ticket.set(nextTicket());
  });

/** Where row number `row` of rows of `bytes` bytes begins. */
export const rowAt = (body: Body, base: I32, row: I32, bytes: I32): Local<"i32"> =>
  body.at(base, i32.mul(row, bytes));
