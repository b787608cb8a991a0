import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import { InputError, messageOf } from "../base/errors.ts";
import { planModule, prepare, type CompiledPlan } from "../index.ts";
import type { Graph } from "../ir/graph.ts";
import { printGraph } from "../ir/print.ts";
import { planMemory, showMemory } from "./memory-plan.ts";
import { loadOptionsOf, modelPath } from "./model.ts";
import { planOptions, type LoadFlags } from "./options.ts";
import { addCommand, type Shell } from "./shell.ts";

interface CompileFlags extends LoadFlags {
  readonly dump: string;
}

export function addCompile(program: Command, shell: Shell): void {
  addCommand(program, "compile", planOptions, {
    usage: "[options] [MODEL] --dump DIR",
    about: "Writes what a model is compiled to: the graph after each pass, the plan, the programs.",
    example: "tramontane compile --dump /tmp/dump",
  })
    .argument("[model]", "a folder or a file; the bundled model where absent")
    .requiredOption("--dump <dir>", "folder that is written to")
    .action(async (model: string | undefined, flags: CompileFlags) => {
      await using prepared = await prepare(modelPath(model), loadOptionsOf(flags, shell));
      const files = new Map<string, string | Uint8Array>();
      const onPass = (graph: Graph, pass: string): void => {
        const number = [...files.keys()].filter((file) =>
          file.endsWith(`.${graph.name}.txt`),
        ).length;
        const file = `${String(number).padStart(2, "0")}-${pass}.${graph.name}.txt`;
        files.set(file, printGraph(graph));
      };
      const compiled = planModule(prepared.module, prepared.weights, {
        ...prepared.compile,
        onPass,
      });
      const memory = planMemory(compiled.plan, prepared.cacheTokens, flags.threads);
      for (const [file, content] of planFiles(compiled)) files.set(file, content);
      files.set("memory.txt", `${showMemory(memory).join("\n")}\n`);
      await write(flags.dump, files);
      process.stdout.write(`${files.size} files in ${flags.dump}\n`);
    });
}

/** The same from run to run: no times, no addresses of this process. */
function planFiles({ plan, probe, text }: CompiledPlan): [string, string | Uint8Array][] {
  const { module, ...rest } = plan;
  return [
    ["plan.json", `${JSON.stringify({ ...rest, probe }, null, 1)}\n`],
    ["module.wat", text()],
    ["module.wasm", module],
  ];
}

async function write(dir: string, files: ReadonlyMap<string, string | Uint8Array>): Promise<void> {
  try {
    await mkdir(dir, { recursive: true });
    for (const [file, content] of files) await writeFile(join(dir, file), content);
  } catch (error) {
    throw new InputError("unwritable", `--dump ${dir}: ${messageOf(error)}`, {}, { cause: error });
  }
}
