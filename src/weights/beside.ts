/** What lies beside weights: the tokenizer, the chat template, and what configs say about them. */
import { InputError } from "../base/errors.ts";
import { isObject, type Json } from "../base/json.ts";
import { huggingFaceVocabulary } from "../text/huggingface-vocabulary.ts";
import { sentencePieceVocabulary } from "../text/sentencepiece.ts";
import { tekkenVocabulary } from "../text/tekken.ts";
import type { Vocabulary } from "../text/vocabulary.ts";
import { mostTokenizerBytes, readBytes, readObject, storageOf } from "./file.ts";

/** An object in JSON, empty where there is no such file. */
export async function objectIn(folder: string, name: string): Promise<Json> {
  const { join, namesIn } = storageOf(folder);
  return (await namesIn(folder)).includes(name) ? await readObject(join(folder, name)) : {};
}

/** What reads the vocabulary of a folder. */
export async function tokenizerIn(folder: string): Promise<() => Vocabulary> {
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

export async function chatTemplateIn(folder: string): Promise<string | undefined> {
  const { join, namesIn } = storageOf(folder);
  const file = "chat_template.jinja";
  if ((await namesIn(folder)).includes(file))
    return new TextDecoder().decode(await readBytes(join(folder, file)));
  const { chat_template: given } = await objectIn(folder, "tokenizer_config.json");
  const named: unknown[] = Array.isArray(given) ? given : [{ name: "default", template: given }];
  const found = named.find((entry) => isObject(entry) && entry.name === "default");
  return isObject(found) && typeof found.template === "string" ? found.template : undefined;
}
