import type { Command } from "commander";
import { createTokenizer, openCheckpoint } from "../index.ts";
import { modelAnd, modelPath, readText } from "./model.ts";
import { addCommand } from "./shell.ts";

export function addTokenize(program: Command): void {
  addCommand(program, "tokenize", [], {
    usage: "[options] [MODEL] TEXT",
    about: "Prints the token ids of a text and what each stands for, as JSON: {ids, pieces}.",
    example: 'tramontane tokenize "Hello, world"',
  })
    .argument("[arguments...]", "MODEL (else the bundled model), and TEXT (- reads stdin)")
    .option("--special", "read special tokens such as <s> out of the text")
    .action(async (args: string[], { special }: { readonly special?: true }) => {
      const [model, given] = modelAnd("TEXT", args, "tokenize");
      const text = given === "-" ? await readText("-") : given;
      await using checkpoint = await openCheckpoint(modelPath(model));
      const tokenizer = createTokenizer(checkpoint.tokenizer);
      const ids = tokenizer.encode(text, { special: special ?? false });
      const pieces = ids.map((id) => tokenizer.pieceOf(id));
      process.stdout.write(`${JSON.stringify({ ids, pieces })}\n`);
    });
}
