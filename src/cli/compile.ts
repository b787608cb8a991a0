import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Option } from "commander";
import type { Graph } from "../ir/graph.ts";
import { printGraph } from "../ir/print.ts";
import type { LoadOptions } from "../load-options.ts";
import { planModule, prepare } from "../load.ts";
import { memoryTable } from "./inspect.ts";
import { fileError, modelPath } from "./model.ts";
import { planOptions } from "./options.ts";
import type { Definition, Shell } from "./shell.ts";

type Flags = LoadOptions & { readonly dump: string };

const dump = new Option("--dump <dir>", "folder that is written to").makeOptionMandatory();

export const command: Definition = {
  usage: "[MODEL] --dump DIR",
  about: "Writes what a model is compiled to: the graph after each pass, the plan, the programs.",
  example: "--dump /tmp/dump",
  options: [...planOptions, dump],
  async run(model: string | undefined, { dump: dir, ...flags }: Flags, shell: Shell) {
    const files = new Map<string, string | Uint8Array>();
    const onPass = (graph: Graph, pass: string): void => {
      const kind = `.${graph.name}.txt`;
      const number = [...files.keys()].filter((file) => file.endsWith(kind)).length;
      files.set(`${String(number).padStart(2, "0")}-${pass}${kind}`, printGraph(graph));
    };
    await using prepared = await prepare(modelPath(model), { ...flags, ...shell, onPass });
    const { plan, probe, text } = planModule(prepared.module, prepared.weights, prepared.compile);
    const { module: wasm, ...rest } = plan;
    // the same from run to run: no times, no addresses of this process
    const { dot, wide, revectorize } = probe;
    const json = JSON.stringify({ ...rest, features: { dot, wide, revectorize } }, null, 1);
    files.set("plan.json", `${json}\n`);
    files.set("module.wat", text());
    files.set("module.wasm", wasm);
    files.set("memory.txt", `${memoryTable(plan, prepared).join("\n")}\n`);
    await write(dir, files).catch(fileError("unwritable", `--dump ${dir}`));
    process.stdout.write(`${files.size} files in ${dir}\n`);
  },
};

async function write(dir: string, files: ReadonlyMap<string, string | Uint8Array>): Promise<void> {
  await makeFolder(dir);
  for (const [file, content] of files) await writeFile(join(dir, file), content);
}

/** With those above it. Node's own way (`recursive`) tries for ever where none can be made, as in /proc. */
async function makeFolder(path: string): Promise<void> {
  if (existsSync(path)) return;
  await makeFolder(dirname(path));
  await mkdir(path);
}
