import { i32, type Body, type Expr, type Local } from "../codegen/wasm/builder.ts";
import { Node } from "../ir/graph.ts";
import type { Argument, Call, RowCount } from "../plan/plan.ts";
import type { Lowering, StepDraft } from "./kernel.ts";
import { share } from "./linear/block.ts";

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

export const unlimited: number = Number.MAX_SAFE_INTEGER;

/** A step that makes the same calls for any number of rows. */
export const stepOf = (name: string, rows: RowCount, ...calls: readonly Call[]): StepDraft => ({
  name,
  rows,
  variants: [{ maxRows: unlimited, calls }],
});

const shared = ["rows", "sharing", "thread", "threads", "scratch"] as const;
/** The parameters of a program that threads share by rows. */
export type RowParams<Name extends string> = {
  readonly [Key in Name | (typeof shared)[number]]: Local<"i32">;
};

/** Parts of a row that a thread is to do. */
export interface Parts {
  readonly begin: Local<"i32">;
  readonly end: Local<"i32">;
}

export type RowEmit<Name extends string> = (
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

/** Rows of a program, of how many parts each is, and who does what. */
export interface RowWork {
  readonly rows: RowCount;
  readonly parts?: number;
  readonly sharing?: Sharing;
}

/**
 * A call of a program that does `each` for every row. The keys of `given` are its parameters; all else that its code depends on
 * is in its name.
 */
export function rowCall<Name extends string>(
  at: Lowering,
  name: string,
  { rows, parts = 1, sharing = "rows" }: RowWork,
  given: Readonly<Record<Name, Given>>,
  each: RowEmit<Name>,
): Call {
  const names = [...Object.keys(given), ...shared];
  const params = Object.fromEntries(names.map((key) => [key, "i32" as const]));
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
function shareRows(body: Body, p: RowParams<never>, parts: number): [rows: Parts, parts: Parts] {
  const all = [p.rows, i32.const(parts)].map((end): Parts => ({
    begin: body.local(i32.const(0)),
    end: body.local(end),
  })) as [Parts, Parts];
  const take = ({ begin, end }: Parts): void => {
    const mine = share(body, end, p.thread, p.threads);
    begin.set(mine.begin);
    end.set(mine.end);
  };
  const byParts = parts === 1 ? p.sharing : i32.or(p.sharing, i32.lt_s(p.rows, p.threads));
  body.if(i32.lt_s(p.sharing, sharings.own), () =>
    body.if(
      byParts,
      () => take(all[1]),
      () => take(all[0]),
    ),
  );
  return all;
}

/** Where row number `row` of rows of `bytes` bytes begins. */
export const rowAt = (
  body: Body,
  base: Expr<"i32">,
  row: Expr<"i32">,
  bytes: Expr<"i32"> | number,
): Local<"i32"> => body.local(i32.add(base, i32.mul(row, bytes)));
