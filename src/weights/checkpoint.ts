import { InputError, refusal, type Refusal } from "../base/errors.ts";
import { isObject, type Json } from "../base/json.ts";
import { ggufVocabulary } from "../text/gguf-vocabulary.ts";
import { huggingFaceVocabulary } from "../text/huggingface-vocabulary.ts";
import { sentencePieceVocabulary } from "../text/sentencepiece.ts";
import { tekkenVocabulary } from "../text/tekken.ts";
import type { Vocabulary } from "../text/vocabulary.ts";
import { checkConfig, configOfGguf, configOfParams } from "./config.ts";
import { mostTokenizerBytes, openFile, readBytes, readObject, storageOf } from "./file.ts";
import type { WeightFile } from "./file.ts";
import { readGguf, splitFiles } from "./gguf.ts";
import type { Kind } from "./names.ts";
import { readIndex, readSafetensors, type Index } from "./safetensors.ts";
import type { CheckpointTensor } from "./tensors.ts";

export type { CheckpointTensor } from "./tensors.ts";

/** An open checkpoint: everything but the bytes of the tensors has been read and checked. */
export interface Checkpoint extends AsyncDisposable {
  readonly path: string;
  readonly files: readonly string[];
  /** Which names its tensors have; `consolidated` are Mistral's own safetensors. */
  readonly kind: Kind;
  /** Fields under the names of Hugging Face's config.json, whatever the file; `where` names it in messages. */
  readonly config: { readonly where: string; readonly json: Json };
  readonly tensors: readonly CheckpointTensor[];
  /** Reads the tokenizer's vocabulary, for `createTokenizer`. Errors: InputError, UnsupportedError. */
  readonly tokenizer: () => Vocabulary;
  /** Jinja text. */
  readonly chatTemplate: string | undefined;
  /** Ids that begin a text and that end an answer. */
  readonly specialIds: { readonly bos: number | undefined; readonly eos: readonly number[] };
}
type Contents = Omit<Checkpoint, "path" | "files" | typeof Symbol.asyncDispose>;
type Files = readonly WeightFile[];

/**
 * Opens a .gguf file (of a split one, any part), a .safetensors file, or a folder with one of them; at a URL or as a blob, a
 * .gguf file. Errors: InputError for what is missing, broken or truncated, UnsupportedError for what is not computed.
 */
export async function openCheckpoint(source: string | Blob): Promise<Checkpoint> {
  const [path, blob] = typeof source === "string" ? [source] : [nameOf(source), source];
  const { basename, isFolder, lists } = storageOf(path);
  const target = (await isFolder(path)) ? await findIn(path) : path;
  const name = basename(target);
  const isGguf = name.endsWith(".gguf");
  const fail: Refusal = refusal("checkpoint", path);
  if (!isGguf && !lists) fail("expected a .gguf file; others need files beside them");
  if (!isGguf && !/\.safetensors(\.index\.json)?$/.test(name))
    fail("expected a .gguf or .safetensors file, or a folder with one");
  const index = name.endsWith(".json") ? await readIndex(target) : undefined;
  const paths = index ? [...index.keys()].sort() : blob ? [path] : splitFiles(target);
  const files: WeightFile[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(files.map((file) => file[Symbol.asyncDispose]()));
  };
  try {
    for (const each of paths) files.push(await openFile(each, blob));
    const contents = await (isGguf ? openGguf(path, files) : openSafetensors(target, files, index));
    checkTensors(path, contents);
    return { path, ...contents, files: paths, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** No path of a disk: nothing lies beside a blob. */
const nameOf = (blob: Blob): string => `blob:${blob instanceof File ? blob.name : ".gguf"}`;

/** The file of a folder that stands for its checkpoint. */
async function findIn(folder: string): Promise<string> {
  const fail: Refusal = refusal("checkpoint", folder);
  const { join, namesIn } = storageOf(folder);
  const names = await namesIn(folder);
  const known = ["model.safetensors.index.json", "model.safetensors", "consolidated.safetensors"];
  const found = known.find((name) => names.includes(name));
  const ggufs = names.filter((name) => name.endsWith(".gguf"));
  const [first, ...others] = found ? [found] : new Set(ggufs.map((name) => splitFiles(name)[0]));
  if (others.length > 0) fail(`several checkpoints, name one of ${[first, ...others].join(", ")}`);
  const wanted =
    "a .gguf file, model.safetensors (or its index and shards) with config.json, or consolidated.safetensors with params.json";
  if (first === undefined) fail(`no checkpoint here; expected ${wanted}`);
  return join(folder, first);
}

async function openGguf(path: string, files: Files): Promise<Contents> {
  const { metadata, tensors } = await readGguf(path, files);
  const where = files[0].path;
  const folder = storageOf(where).dirname(where);
  const hasTokenizer = metadata.has("tokenizer.ggml.model");
  const template = metadata.get("tokenizer.chat_template");
  const ids = (name: string): number[] => idsOf(metadata.get(`tokenizer.ggml.${name}_token_id`));
  return {
    kind: "gguf",
    config: { where, json: configOfGguf(where, { metadata, tensors }) },
    tensors,
    tokenizer: hasTokenizer ? () => ggufVocabulary(metadata) : await tokenizerIn(folder),
    chatTemplate: typeof template === "string" ? template : await chatTemplateIn(folder),
    specialIds: { bos: ids("bos")[0], eos: [...new Set(["eos", "eot", "eom"].flatMap(ids))] },
  };
}

async function openSafetensors(target: string, files: Files, index?: Index): Promise<Contents> {
  const { basename, dirname, join } = storageOf(target);
  const folder = dirname(target);
  const isConsolidated = basename(target) === "consolidated.safetensors";
  const where = join(folder, isConsolidated ? "params.json" : "config.json");
  const given = await readObject(where);
  if (!isConsolidated) checkConfig(where, given);
  const read = (file: WeightFile) => readSafetensors(file, index?.get(file.path));
  const tensors = (await Array.fromAsync(files, read)).flat();
  const json = isConsolidated ? configOfParams(given, tensors) : given;
  const generation = await objectIn(folder, "generation_config.json");
  const ids = (field: string): number[] => idsOf(generation[field] ?? json[field]);
  return {
    kind: isConsolidated ? "consolidated" : "safetensors",
    config: { where, json },
    tensors,
    tokenizer: await tokenizerIn(folder),
    chatTemplate: await chatTemplateIn(folder),
    specialIds: { bos: ids("bos_token_id")[0], eos: ids("eos_token_id") },
  };
}

const idsOf = (value: unknown): number[] =>
  [value].flat().filter((id): id is number => typeof id === "number" && Number.isInteger(id));

/** An object in JSON, empty where there is no such file. */
async function objectIn(folder: string, name: string): Promise<Json> {
  const { join, namesIn } = storageOf(folder);
  return (await namesIn(folder)).includes(name) ? await readObject(join(folder, name)) : {};
}

/** What reads the vocabulary of a folder. */
async function tokenizerIn(folder: string): Promise<() => Vocabulary> {
  const { join, namesIn } = storageOf(folder);
  const names = await namesIn(folder);
  const path = (name: string): string => join(folder, name);
  if (names.includes("tokenizer.json")) {
    const config = await objectIn(folder, "tokenizer_config.json");
    const json = await readObject(path("tokenizer.json"), mostTokenizerBytes);
    return () => huggingFaceVocabulary(json, config);
  }
  const model = names.find((name) => /^tokenizer.*\.model(\.v\d+)?$/.test(name));
  if (model !== undefined) {
    const bytes = await readBytes(path(model), mostTokenizerBytes);
    return () => sentencePieceVocabulary(bytes);
  }
  if (names.includes("tekken.json")) {
    const json = await readObject(path("tekken.json"), mostTokenizerBytes);
    return () => tekkenVocabulary(json);
  }
  const lookedFor = ["tokenizer.json", "tokenizer.model", "tekken.json"].map(path);
  const told = `the model has no tokenizer; put one of these beside it: ${lookedFor.join(", ")}`;
  return () => {
    throw new InputError("no-tokenizer", told, { lookedFor });
  };
}

async function chatTemplateIn(folder: string): Promise<string | undefined> {
  const { join, namesIn } = storageOf(folder);
  const file = "chat_template.jinja";
  if ((await namesIn(folder)).includes(file))
    return new TextDecoder().decode(await readBytes(join(folder, file)));
  const { chat_template: given } = await objectIn(folder, "tokenizer_config.json");
  const named: unknown[] = Array.isArray(given) ? given : [{ name: "default", template: given }];
  const found = named.find((entry) => isObject(entry) && entry.name === "default");
  return isObject(found) && typeof found.template === "string" ? found.template : undefined;
}

/** What holds for tensors of all files together. */
function checkTensors(path: string, { config, tensors }: Contents): void {
  const fail: Refusal = refusal("weights", path);
  const names = new Set<string>();
  for (const { name } of tensors) {
    if (names.has(name)) refusal("tensor", path, { name })(`tensor ${name}: occurs in two files`);
    names.add(name);
  }
  // A module is built from the config before its tensors are looked for: it must not have a billion layers.
  const layers = config.json.num_hidden_layers;
  const count = tensors.length;
  if (typeof layers === "number" && layers > count)
    fail(`the config says ${layers} layers, and there are ${count} tensors; is it complete?`);
}
