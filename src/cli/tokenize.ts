import { Option, type Command } from "commander";
import { createTokenizer } from "../text/tokenizer.ts";
import { openCheckpoint } from "../weights/checkpoint.ts";
import { modelPath, readText, textAndModel } from "./model.ts";
import { printJson, type Definition, type Shell } from "./shell.ts";

export const command: Definition = {
  usage: "[MODEL] TEXT",
  about: "Prints the token ids of a text and what each stands for, as JSON: {ids, pieces}.",
  example: '"Hello, world"',
  arguments: "MODEL (else the bundled model), and TEXT (- reads stdin)",
  options: [new Option("--special", "read special tokens such as <s> out of the text")],
  async run(args: readonly string[], flags: { special?: true }, _: Shell, command: Command) {
    const [given, model] = textAndModel(args, command);
    const text = given === "-" ? await readText("-") : given;
    await using checkpoint = await openCheckpoint(modelPath(model));
    const tokenizer = createTokenizer(checkpoint.tokenizer);
    const ids = tokenizer.encode(text, { special: flags.special ?? false });
    printJson({ ids, pieces: ids.map((id) => tokenizer.pieceOf(id)) });
  },
};
