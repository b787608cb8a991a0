import { styleText } from "node:util";
import { CommanderError, type Command, type Option } from "commander";
import { AbortError, InternalError, messageOf, TramontaneError } from "../base/errors.ts";

/** What every command is given. */
export interface Shell {
  /** Fires at Ctrl-C. */
  readonly signal: AbortSignal;
  /** Stacks and notices are shown. */
  readonly debug: boolean;
}

/** The command line is wrong. */
export class UsageError extends Error {}

interface Shown {
  /** As it stands behind the name: `[options] [MODEL] PROMPT`. */
  readonly usage: string;
  readonly about: string;
  readonly example: string;
}

/** Adds a command; what commander finds wrong becomes a UsageError that says where help is. */
export function addCommand(
  program: Command,
  name: string,
  options: readonly Option[],
  { usage, about, example }: Shown,
): Command {
  const command = program
    .command(name)
    .description(about)
    .usage(usage)
    .addHelpText("after", `\nExample:\n  $ ${example}`)
    .exitOverride((error) => {
      if (error.exitCode === 0) throw error;
      throw new UsageError(`${oneLine(error)}; see tramontane ${name} --help`);
    });
  for (const option of options) command.addOption(option);
  return command;
}

/** `unknown option '--x' (Did you mean --y?)` */
export const oneLine = ({ message }: CommanderError): string =>
  message
    .replace(/^error: /, "")
    .replace(/\s*\n\s*/g, " ")
    .replace(/\.$/, "");

/** A grey line on stderr, for people: on a terminal, or with --debug. */
export function notice(text: string, { debug }: Shell): void {
  if (debug || process.stderr.isTTY)
    process.stderr.write(`${styleText("dim", text, { stream: process.stderr })}\n`);
}

/** Prints what went wrong as one message; returns the exit code. */
export function report(error: unknown, debug: boolean): number {
  const { code, message } = verdictOf(error);
  if (message === undefined) return code;
  process.stderr.write(`error: ${message}\n`);
  if (!debug) return code;
  for (let at = error; at instanceof Error; at = at.cause) process.stderr.write(`${at.stack}\n`);
  return code;
}

interface Verdict {
  readonly code: 0 | 1 | 2 | 130;
  /** Absent where there is nothing to say. */
  readonly message?: string;
}

function verdictOf(error: unknown): Verdict {
  if (error instanceof CommanderError) return { code: error.exitCode === 0 ? 0 : 2 }; // help was printed
  if (error instanceof AbortError) return { code: 130 };
  const message = messageOf(error).split("\n", 1)[0];
  if (error instanceof UsageError) return { code: 2, message };
  if (isExpected(error)) return { code: 1, message };
  return { code: 1, message: `${message} (a bug of tramontane; --debug shows where)` };
}

/** Errors that tell the reader what to change: ours, and those of the operating system, which name a file. */
const isExpected = (error: unknown): boolean =>
  error instanceof TramontaneError
    ? !(error instanceof InternalError)
    : error instanceof Error && "syscall" in error;
