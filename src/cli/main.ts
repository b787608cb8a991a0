import { readFileSync } from "node:fs";
import { Command } from "commander";
import { addCommand, notice, refuse, report, type Definition, type Shell } from "./shell.ts";

/** Each command is loaded when it is called, or when all are listed. */
const commands: Readonly<Record<string, () => Promise<{ readonly command: Definition }>>> = {
  run: () => import("./run.ts"),
  chat: () => import("./chat.ts"),
  score: () => import("./score.ts"),
  tokenize: () => import("./tokenize.ts"),
  inspect: () => import("./inspect.ts"),
  bench: () => import("./bench.ts"),
  compile: () => import("./compile.ts"),
};
const names = Object.keys(commands);

async function createProgram(called: string | undefined, shell: Shell): Promise<Command> {
  const manifest = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  const { version } = JSON.parse(manifest) as { version: string };
  const program = new Command("tramontane")
    .description(
      "Runs language models of the Mistral family. MODEL is a folder or a file; the bundled model where absent.",
    )
    .version(version)
    .addHelpText("after", '\nExample:\n  $ tramontane run "Name the capital of France."')
    .configureOutput({ outputError: () => {} }) // `report` prints every error
    .exitOverride(refuse(`expected one of ${names.join(", ")}; see tramontane --help`));
  const needed = names.filter((name) => name === called);
  for (const name of needed.length > 0 ? needed : names)
    addCommand(program, name, (await commands[name]()).command, shell);
  for (const command of [program, ...program.commands])
    command.option("--debug", "stacks of errors, and notices");
  return program;
}

const args = process.argv.slice(2);
const interrupt = new AbortController();
const debug = args.slice(0, [...args, "--"].indexOf("--")).includes("--debug");
process.once("SIGINT", () => interrupt.abort(new Error("interrupted"))); // a second one ends the process
for (const stream of [process.stdout, process.stderr])
  stream.on("error", (error: NodeJS.ErrnoException) => {
    const isLeft = error.code === "EPIPE"; // whoever read has gone: nothing is left to do
    process.exit(isLeft ? process.exitCode : report(error, debug));
  });
process.on("uncaughtException", (error) => process.exit(report(error, debug)));
try {
  const called = args.find((arg) => !arg.startsWith("-"));
  const onNotice = (text: string): void => notice(text, debug);
  const program = await createProgram(called, { signal: interrupt.signal, onNotice });
  await program.parseAsync(args, { from: "user" });
} catch (error) {
  process.exitCode = report(error, debug);
}
