import { basename, dirname, join } from "node:path";
import { InputError } from "../base/errors.ts";
import { textPartsIn, textPartsOfGguf, type TextParts } from "./beside.ts";
import { checkArchitecture, configOfGguf, configOfParams } from "./config.ts";
import { isFolder, namesIn, readObject, WeightFile } from "./file.ts";
import { readGguf, splitFiles } from "./gguf.ts";
import type { Json } from "./json.ts";
import type { Dialect } from "./names.ts";
import { readShards, shardsOf, type Shards } from "./safetensors.ts";
import type { CheckpointTensor } from "./tensors.ts";

export type { CheckpointTensor } from "./tensors.ts";

/** What the readers find in the files of a checkpoint. */
interface Contents extends TextParts {
  readonly kind: "gguf" | "safetensors" | "consolidated";
  readonly dialect: Dialect;
  /** Fields under the names of Hugging Face's config.json, whatever the file; `where` names it in messages. */
  readonly config: { readonly where: string; readonly json: Json };
  readonly tensors: readonly CheckpointTensor[];
}

/** An open checkpoint: everything but the bytes of the tensors has been read and checked. */
export interface Checkpoint extends Contents, AsyncDisposable {
  readonly path: string;
  readonly files: readonly string[];
}

/**
 * Opens a .gguf file (of a split one, any part), a .safetensors file, or a folder with one of them. Errors: InputError for a
 * file that is missing, broken or truncated, UnsupportedError for what is not computed.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const fail = (problem: string): never => {
    throw new InputError("checkpoint", `${path}: ${problem}`);
  };
  const target = (await isFolder(path)) ? findIn(path, await namesIn(path), fail) : path;
  if (target.endsWith(".gguf"))
    return await opened(path, splitFiles(target), (files) => readGgufFiles(path, files));
  if (!/\.safetensors(\.index\.json)?$/.test(target))
    return fail("expected a .gguf or .safetensors file, or a folder with one");
  const shards = await shardsOf(target);
  return await opened(path, [...shards.keys()].sort(), (files) =>
    readSafetensorsFiles(target, files, shards),
  );
}

/** The file of a folder that stands for its checkpoint. */
function findIn(
  folder: string,
  names: readonly string[],
  fail: (problem: string) => never,
): string {
  const known = ["model.safetensors.index.json", "model.safetensors", "consolidated.safetensors"];
  const found = known.find((name) => names.includes(name));
  if (found !== undefined) return join(folder, found);
  const ggufs = names.filter((name) => name.endsWith(".gguf"));
  const firsts = [...new Set(ggufs.map((name) => splitFiles(name)[0]))];
  if (firsts.length === 1) return join(folder, firsts[0]);
  if (firsts.length > 1) return fail(`several checkpoints, name one of ${firsts.join(", ")}`);
  return fail(
    "no checkpoint here; expected a .gguf file, model.safetensors (or its index and shards) with config.json, or consolidated.safetensors with params.json",
  );
}

/** Opens files so that they are all closed when one cannot be opened or read. */
async function opened(
  path: string,
  paths: readonly string[],
  read: (files: readonly WeightFile[]) => Promise<Contents>,
): Promise<Checkpoint> {
  const files: WeightFile[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(files.map((file) => file[Symbol.asyncDispose]()));
  };
  try {
    for (const each of paths) files.push(await WeightFile.open(each));
    const contents = await read(files);
    checkTensors(path, contents);
    return { path, ...contents, files: paths, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function readGgufFiles(path: string, files: readonly WeightFile[]): Promise<Contents> {
  const { metadata, tensors } = await readGguf(path, files);
  const where = files[0].path;
  return {
    kind: "gguf",
    dialect: "gguf",
    config: { where, json: configOfGguf(where, metadata, tensors) },
    tensors,
    ...(await textPartsOfGguf(metadata, dirname(where))),
  };
}

async function readSafetensorsFiles(
  target: string,
  files: readonly WeightFile[],
  shards: Shards,
): Promise<Contents> {
  const folder = dirname(target);
  const isConsolidated = basename(target) === "consolidated.safetensors";
  const where = join(folder, isConsolidated ? "params.json" : "config.json");
  const given = await readObject(where);
  if (!isConsolidated) checkArchitecture(where, given);
  const tensors = await readShards(files, shards);
  const json = isConsolidated ? configOfParams(given, tensors) : given;
  return {
    kind: isConsolidated ? "consolidated" : "safetensors",
    dialect: isConsolidated ? "consolidated" : "hugging-face",
    config: { where, json },
    tensors,
    ...(await textPartsIn(folder, json)),
  };
}

/** What holds for tensors of all files together. */
function checkTensors(path: string, { config, tensors }: Contents): void {
  const names = new Set<string>();
  for (const { name } of tensors) {
    if (names.has(name))
      throw new InputError("tensor", `${path}: tensor ${name}: occurs in two files`, { name });
    names.add(name);
  }
  // A module is built from the config before its tensors are looked for: it must not have a billion layers.
  const layers = config.json.num_hidden_layers;
  if (typeof layers === "number" && layers > tensors.length)
    throw new InputError(
      "weights",
      `${path}: the config says ${layers} layers, and there are ${tensors.length} tensors; is the checkpoint complete?`,
      { layers, tensors: tensors.length },
    );
}
