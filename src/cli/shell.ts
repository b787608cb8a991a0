import { styleText } from "node:util";
import { CommanderError, type Command, type Option } from "commander";
import { AbortError, InternalError, messageOf, TramontaneError } from "../base/errors.ts";
import type { LoadOptions } from "../index.ts";

/** What every command is given, and gives to `load`: a signal that fires at Ctrl-C, and who shows notices. */
export type Shell = Required<Pick<LoadOptions, "signal" | "onNotice">>;

/** The command line is wrong. */
class UsageError extends Error {}

/** A command: what its help says, and what it does. */
export interface Definition {
  /** As it stands behind the name and `[options]`: `[MODEL] PROMPT`; MODEL alone where absent. */
  readonly usage?: string;
  readonly about: string;
  readonly example: string;
  /** Of MODEL and a text, where it takes both. */
  readonly arguments?: string;
  readonly options: readonly Option[];
  /** `given` is the model, or all arguments of a command that takes a text, too. */
  run(given: unknown, flags: object, shell: Shell, command: Command): Promise<void>;
}

/** Adds a command; what commander or `command.error` finds wrong becomes a UsageError that says where help is. */
export function addCommand(program: Command, name: string, shown: Definition, shell: Shell): void {
  const command = program
    .command(name)
    .description(shown.about)
    .usage(`[options] ${shown.usage ?? "[MODEL]"}`)
    .addHelpText("after", `\nExample:\n  $ tramontane ${name} ${shown.example}`)
    .exitOverride(refuse(`see tramontane ${name} --help`))
    .action((given, flags) => shown.run(given, flags, shell, command));
  for (const option of shown.options) command.addOption(option);
  if (shown.arguments !== undefined) command.argument("[arguments...]", shown.arguments);
  else command.argument("[model]", "a folder or a file; the bundled model where absent");
}

/** Makes what commander found wrong a UsageError of one line with advice: `unknown option '--x' (Did you mean --y?); …` */
export const refuse =
  (advice: string) =>
  (error: CommanderError): never => {
    if (error.exitCode === 0 || error.code === "commander.help") throw error;
    const lines = error.message.replace(/^error: |\.$/g, "").split(/\s*\n\s*/);
    throw new UsageError(`${lines.join(" ")}; ${advice}`);
  };

export const printJson = (value: unknown): unknown =>
  process.stdout.write(`${JSON.stringify(value)}\n`);

/** A grey line on stderr, for people: on a terminal, or with --debug. */
export function notice(text: string, debug: boolean): void {
  if (debug || process.stderr.isTTY)
    process.stderr.write(`${styleText("dim", text, { stream: process.stderr })}\n`);
}

/** Prints what went wrong as one message; returns the exit code. */
export function report(error: unknown, debug: boolean): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2; // help was printed
  if (error instanceof AbortError) return 130;
  const bug = isExpected(error) ? "" : " (a bug of tramontane; --debug shows where)";
  process.stderr.write(`error: ${messageOf(error).split("\n", 1)[0]}${bug}\n`);
  if (debug)
    for (let at = error; at instanceof Error; at = at.cause) process.stderr.write(`${at.stack}\n`);
  return error instanceof UsageError ? 2 : 1;
}

/** Errors that tell the reader what to change: ours, and those of the operating system, which name a file. */
const isExpected = (error: unknown): boolean =>
  error instanceof TramontaneError
    ? !(error instanceof InternalError)
    : error instanceof UsageError || (error instanceof Error && "syscall" in error);

export const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** Lines of cells under each other, to the right. */
export function table(lines: readonly (readonly string[])[]): string {
  const widths = lines[0].map((_, at) => 2 + Math.max(...lines.map((line) => line[at].length)));
  const padded = lines.map((line) => line.map((text, at) => text.padStart(widths[at])).join(""));
  return `${padded.join("\n")}\n`;
}
