import { InputError } from "../base/errors.ts";
import { ggufVocabulary } from "../text/gguf-vocabulary.ts";
import { huggingFaceVocabulary } from "../text/huggingface-vocabulary.ts";
import { sentencePieceVocabulary } from "../text/sentencepiece.ts";
import { tekkenVocabulary } from "../text/tekken.ts";
import type { Vocabulary } from "../text/vocabulary.ts";
import { isObject, mostTokenizerBytes, readBytes, readObject, storageOf } from "./file.ts";
import type { Json } from "./file.ts";
import type { Metadata } from "./gguf.ts";

/** What a checkpoint says about text: in its metadata, or in files beside the weights. */
export interface TextParts {
  /** Reads the tokenizer's vocabulary, for `createTokenizer`. Errors: InputError, UnsupportedError. */
  readonly tokenizer: () => Vocabulary;
  /** Jinja text. */
  readonly chatTemplate: string | undefined;
  /** Ids that begin a text and that end an answer. */
  readonly specialIds: { readonly bos: number | undefined; readonly eos: readonly number[] };
}

export async function textPartsOfGguf(metadata: Metadata, folder: string): Promise<TextParts> {
  const hasTokenizer = metadata.has("tokenizer.ggml.model");
  const template = metadata.get("tokenizer.chat_template");
  const ids = (name: string): number[] => idsOf(metadata.get(`tokenizer.ggml.${name}_token_id`));
  return {
    tokenizer: hasTokenizer ? () => ggufVocabulary(metadata) : await tokenizerIn(folder),
    chatTemplate: typeof template === "string" ? template : await chatTemplateIn(folder),
    specialIds: { bos: ids("bos")[0], eos: [...new Set(["eos", "eot", "eom"].flatMap(ids))] },
  };
}

/** `config` is the folder's config.json. */
export async function textPartsIn(folder: string, config: Json): Promise<TextParts> {
  const generation = await objectIn(folder, "generation_config.json");
  const ids = (field: string): number[] => idsOf(generation[field] ?? config[field]);
  return {
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

async function tokenizerIn(folder: string): Promise<TextParts["tokenizer"]> {
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
