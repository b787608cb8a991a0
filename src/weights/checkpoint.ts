import { basename, dirname, join } from "node:path";
import { InputError, UnsupportedError } from "../base/errors.ts";
import type { TokenizerSource } from "../text/source.ts";
import { Beside, type SpecialIds } from "./beside.ts";
import { isFolder, namesIn, readObject, WeightFile } from "./file.ts";
import type { Json } from "./json.ts";
import { configOf, specialIdsOf } from "./gguf-config.ts";
import { checkSplit, readGguf, splitFiles, type GgufPart } from "./gguf.ts";
import type { Dialect } from "./names.ts";
import { configOfParams } from "./params.ts";
import { checkIndex, readIndex, readSafetensors } from "./safetensors.ts";
import type { CheckpointTensor } from "./tensors.ts";

export type { CheckpointTensor } from "./tensors.ts";

/** An open checkpoint: everything but the bytes of the tensors has been read and checked. */
export interface Checkpoint extends AsyncDisposable {
  readonly path: string;
  readonly kind: "gguf" | "safetensors" | "consolidated";
  readonly dialect: Dialect;
  /** Fields under the names of Hugging Face's config.json, whatever the file; `where` names it in messages. */
  readonly config: { readonly where: string; readonly json: Json };
  readonly tokenizer: TokenizerSource;
  /** Jinja text. */
  readonly chatTemplate: string | undefined;
  readonly specialIds: SpecialIds;
  readonly tensors: readonly CheckpointTensor[];
  readonly files: readonly string[];
}

/**
 * Opens a .gguf file (of a split one, any part), a .safetensors file, or a folder with one of them. Errors: InputError for a
 * file that is missing, broken or truncated, UnsupportedError for what is not computed.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const target = (await isFolder(path)) ? await findIn(path) : path;
  if (target.endsWith(".gguf")) return await openGguf(path, target);
  if (basename(target) === "consolidated.safetensors") return await openConsolidated(path, target);
  if (/\.safetensors(\.index\.json)?$/.test(target)) return await openSafetensors(path, target);
  throw new InputError(
    "checkpoint",
    `${path}: expected a .gguf or .safetensors file, or a folder with one`,
  );
}

/** The file of a folder that stands for its checkpoint. */
async function findIn(folder: string): Promise<string> {
  const names = await namesIn(folder);
  for (const name of [
    "model.safetensors.index.json",
    "model.safetensors",
    "consolidated.safetensors",
  ])
    if (names.includes(name)) return join(folder, name);
  const ggufs = names.filter((name) => name.endsWith(".gguf"));
  const firsts = [...new Set(ggufs.map((name) => splitFiles(name)[0]))];
  if (firsts.length === 1) return join(folder, firsts[0]);
  if (firsts.length > 1)
    throw new InputError(
      "checkpoint",
      `${folder}: several checkpoints, name one of ${firsts.join(", ")}`,
    );
  throw new InputError(
    "checkpoint",
    `${folder}: no checkpoint here; expected a .gguf file, model.safetensors (or its index and shards) with config.json, or consolidated.safetensors with params.json`,
  );
}

/** Opens files so that they are all closed when one cannot be opened or read. */
async function withFiles<T>(
  paths: readonly string[],
  use: (files: readonly WeightFile[], close: () => Promise<void>) => Promise<T>,
): Promise<T> {
  const files: WeightFile[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(files.splice(0).map((file) => file[Symbol.asyncDispose]()));
  };
  try {
    for (const path of paths) files.push(await WeightFile.open(path));
    return await use([...files], close);
  } catch (error) {
    await close();
    throw error;
  }
}

const openGguf = (path: string, target: string): Promise<Checkpoint> =>
  withFiles(splitFiles(target), async (files, close) => {
    const parts: GgufPart[] = [];
    for (const file of files) parts.push(await readGguf(file));
    const [{ metadata }] = parts;
    const tensors = parts.flatMap((part) => part.tensors);
    checkSplit(path, parts);
    const json = configOf(files[0].path, metadata, tensors);
    checkTensors(path, json, tensors);
    const beside = await Beside.in(dirname(target));
    const hasTokenizer = metadata.has("tokenizer.ggml.model");
    const template = metadata.get("tokenizer.chat_template");
    return {
      path,
      kind: "gguf",
      dialect: "gguf",
      config: { where: files[0].path, json },
      tokenizer: hasTokenizer ? { kind: "gguf", metadata } : await beside.tokenizer(),
      chatTemplate: typeof template === "string" ? template : await beside.chatTemplate(),
      specialIds: specialIdsOf(metadata),
      tensors,
      files: files.map((file) => file.path),
      [Symbol.asyncDispose]: close,
    };
  });

/** What safetensors checkpoints have in common. */
async function fromSafetensors(
  path: string,
  folder: string,
  files: readonly WeightFile[],
  found: {
    readonly json: Json;
    readonly tensors: readonly CheckpointTensor[];
    close(): Promise<void>;
  },
): Promise<Omit<Checkpoint, "kind" | "dialect" | "config">> {
  checkTensors(path, found.json, found.tensors);
  const beside = await Beside.in(folder);
  return {
    path,
    tokenizer: await beside.tokenizer(),
    chatTemplate: await beside.chatTemplate(),
    specialIds: await beside.specialIds(found.json),
    tensors: found.tensors,
    files: files.map((file) => file.path),
    [Symbol.asyncDispose]: found.close,
  };
}

async function openSafetensors(path: string, target: string): Promise<Checkpoint> {
  const index = target.endsWith(".index.json") ? await readIndex(target) : undefined;
  return await withFiles(index?.files ?? [target], async (files, close) => {
    const where = join(dirname(target), "config.json");
    const json = await readObject(where);
    checkArchitecture(where, json);
    const found = new Map<string, CheckpointTensor[]>();
    for (const file of files) found.set(file.path, await readSafetensors(file));
    if (index) checkIndex(index.fileOf, found);
    const tensors = [...found.values()].flat();
    return {
      ...(await fromSafetensors(path, dirname(target), files, { json, tensors, close })),
      kind: "safetensors",
      dialect: "hugging-face",
      config: { where, json },
    };
  });
}

const openConsolidated = (path: string, target: string): Promise<Checkpoint> =>
  withFiles([target], async (files, close) => {
    const where = join(dirname(target), "params.json");
    const tensors = await readSafetensors(files[0]);
    const json = configOfParams(await readObject(where), tensors);
    return {
      ...(await fromSafetensors(path, dirname(target), files, { json, tensors, close })),
      kind: "consolidated",
      dialect: "consolidated",
      config: { where, json },
    };
  });

/** What holds for tensors of all files together. */
function checkTensors(path: string, json: Json, tensors: readonly CheckpointTensor[]): void {
  const names = new Set<string>();
  for (const { name } of tensors) {
    if (names.has(name))
      throw new InputError("tensor", `${path}: tensor ${name}: occurs in two files`, { name });
    names.add(name);
  }
  // A module is built from the config before its tensors are looked for: it must not have a billion layers.
  const layers = json.num_hidden_layers;
  if (typeof layers === "number" && layers > tensors.length)
    throw new InputError(
      "weights",
      `${path}: the config says ${layers} layers, and there are ${tensors.length} tensors; is the checkpoint complete?`,
      { layers, tensors: tensors.length },
    );
}

/** Architectures of config.json that the Mistral module computes. */
const architectures: readonly string[] = [
  "MistralForCausalLM",
  "LlamaForCausalLM",
  "mistral",
  "llama",
];

function checkArchitecture(where: string, { architectures: named, model_type }: Json): void {
  const given = Array.isArray(named) && named.length > 0 ? named[0] : model_type;
  const isKnown = typeof given === "string" && architectures.includes(given);
  if (given !== undefined && !isKnown)
    throw new UnsupportedError(
      "architecture",
      `${where}: architectures: expected ${architectures.join(", ")}, got ${JSON.stringify(given)}`,
      { architecture: given },
    );
}
