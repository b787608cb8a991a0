import { i32, integers, type Body, type Expr, type I32 } from "../codegen/wasm/builder.ts";
import type { FuncRef, Local, Locals, WasmModule } from "../codegen/wasm/builder.ts";
import { Node } from "../ir/graph.ts";
import { controlWords, type Argument, type Call, type RowCount } from "../plan/plan.ts";
import type { Lowering, StepDraft } from "./kernel.ts";

/** Locals by the names of parameters: "x y" gives { x, y }. */
export type Named<Names extends string> = Locals<ReturnType<typeof integers<Names>>>;

/**
 * A function of i32s that only programs of the same module call; `names` are those of its parameters. Two of one name are one, so
 * all that its code depends on is in its name.
 */
export const internal = <const Names extends string>(
  module: WasmModule,
  name: string,
  names: Names,
  build: (params: Named<Names>, body: Body) => void,
): FuncRef<"void"> =>
  module.once(name, () => module.func(name, integers(names), "void", build, { export: false }));

/** What a program is called with: the address of a value, a constant, or what is known when the step runs. */
export type Given = Node | number | Argument;

/** A call with arguments in the order of the program's parameters. */
export const callOf = (at: Lowering, program: string, given: readonly Given[]): Call => ({
  program,
  args: given.map((value) => {
    if (typeof value === "number") return { kind: "constant", value };
    return value instanceof Node ? at.address(value) : value;
  }),
});

const unlimited = Number.MAX_SAFE_INTEGER;

/** A step that makes the same calls for any number of rows. */
export const stepOf = (name: string, rows: RowCount, ...calls: readonly Call[]): StepDraft => ({
  name,
  rows,
  variants: [{ maxRows: unlimited, calls }],
});

/**
 * Up to so many rows are few: weights are unpacked in registers, once a row, and attention is shared out by spans of keys. More are
 * many: weights go into panels, once for all rows, and attention is shared out by blocks of rows.
 */
export const fewRows = 3;
export type RowsKind = "few" | "many";

/** A step of different calls for few rows and for many; where it has none, other steps do its work. */
export const stepFor = (
  name: string,
  rows: RowCount,
  { few, many }: Readonly<Record<RowsKind, readonly Call[]>>,
): StepDraft => ({
  name,
  rows,
  variants: [
    { maxRows: fewRows, calls: few },
    { maxRows: unlimited, calls: many },
  ],
});

const shared = ["rows", "sharing", "thread", "threads", "scratch"] as const;
type Shared = (typeof shared)[number];
/** The parameters of a program that threads share by rows. */
export type RowParams<Name extends string> = Readonly<Record<Name | Shared, Local<"i32">>>;

/** Parts of a row that a thread is to do. */
export type Parts = Named<"begin end">;

/** Makes the code for a row. */
export type EmitRow<Name extends string> = (
  body: Body,
  row: Local<"i32">,
  params: RowParams<Name>,
  parts: Parts,
) => void;

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
  each: EmitRow<Name>,
): Call {
  const params = integers([...Object.keys(given), ...shared].join(" "));
  const program = at.program(name, (module, key) =>
    module.func(key, params, "void", (locals, body) => {
      const p = locals as RowParams<Name>;
      const [mine, within] = shareRows(body, p, parts);
      body.for(mine.begin, mine.end, 1, (row) => each(body, row, p, within));
    }),
  );
  return callOf(at, program, [...Object.values<Given>(given), rows, sharings[sharing]]);
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
  body.while(
    () => i32.lt_u(ticket, end),
    () => {
      each();
      ticket.set(nextTicket());
    },
  );

/** Where row number `row` of rows of `bytes` bytes begins. */
export const rowAt = (body: Body, base: I32, row: I32, bytes: I32): Local<"i32"> =>
  body.local(i32.add(base, i32.mul(row, bytes)));
