import { readFileSync } from "node:fs";
import { Command } from "commander";
import { addBench } from "./bench.ts";
import { addChat } from "./chat.ts";
import { addCompile } from "./compile.ts";
import { addInspect } from "./inspect.ts";
import { addRun } from "./run.ts";
import { addScore } from "./score.ts";
import { oneLine, report, UsageError, type Shell } from "./shell.ts";
import { addTokenize } from "./tokenize.ts";

const commands = [addRun, addChat, addScore, addTokenize, addInspect, addBench, addCompile];

function createProgram(shell: Shell): Command {
  const manifest = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  const { version } = JSON.parse(manifest) as { version: string };
  const program = new Command("tramontane")
    .description(
      "Runs language models of the Mistral family. MODEL is a folder or a file; the bundled model where absent.",
    )
    .version(version)
    .addHelpText("after", '\nExample:\n  $ tramontane run "Name the capital of France."')
    .configureOutput({ outputError: () => {} }) // `report` prints every error
    .exitOverride((error) => {
      if (error.exitCode === 0 || error.code === "commander.help") throw error;
      const names = program.commands.map((command) => command.name()).join(", ");
      throw new UsageError(`${oneLine(error)}; expected one of ${names}; see tramontane --help`);
    });
  for (const add of commands) add(program, shell);
  for (const command of [program, ...program.commands])
    command.option("--debug", "stacks of errors, and notices");
  return program;
}

async function main(args: readonly string[]): Promise<void> {
  const interrupt = new AbortController();
  const debug = args
    .slice(0, args.includes("--") ? args.indexOf("--") : undefined)
    .includes("--debug");
  const finish = (error: unknown): void => {
    process.exitCode = report(error, debug);
  };
  process.once("SIGINT", () => interrupt.abort(new Error("interrupted"))); // a second one ends the process
  for (const stream of [process.stdout, process.stderr])
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") finish(error);
      process.exit(); // whoever read has gone: nothing is left to do
    });
  process.on("uncaughtException", (error) => {
    finish(error);
    process.exit();
  });
  try {
    await createProgram({ signal: interrupt.signal, debug }).parseAsync(args, { from: "user" });
  } catch (error) {
    finish(error);
  }
}

await main(process.argv.slice(2));
