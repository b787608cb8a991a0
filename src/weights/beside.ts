import { join } from "node:path";
import type { TokenizerSource } from "../text/source.ts";
import { mostTokenizerBytes, namesIn, readBytes, readObject, readText } from "./file.ts";
import { isObject, type Json } from "./json.ts";

/** What lies beside the weights of a checkpoint. */
export interface Beside {
  readonly tokenizer: TokenizerSource;
  readonly chatTemplate: string | undefined;
  readonly specialIds: { readonly bos: number | undefined; readonly eos: readonly number[] };
}

/** Reads tokenizer, chat template and special ids of a folder; `config` is its config.json, where there is one. */
export async function besideIn(folder: string, config: Json = {}): Promise<Beside> {
  const names = new Set(await namesIn(folder));
  const optional = async (name: string): Promise<Json> =>
    names.has(name) ? await readObject(join(folder, name)) : {};
  const tokenizerConfig = await optional("tokenizer_config.json");
  const generation = await optional("generation_config.json");
  const template = names.has("chat_template.jinja")
    ? await readText(join(folder, "chat_template.jinja"))
    : templateOf(tokenizerConfig.chat_template);
  const ids = (field: string): number[] => idsOf(generation[field] ?? config[field]);
  return {
    tokenizer: await tokenizerIn(folder, names, tokenizerConfig),
    chatTemplate: template,
    specialIds: { bos: ids("bos_token_id")[0], eos: ids("eos_token_id") },
  };
}

const idsOf = (value: unknown): number[] =>
  [value].flat().filter((id): id is number => typeof id === "number" && Number.isInteger(id));

/** A text, or the one named `default` of a list. */
function templateOf(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return undefined;
  const found: unknown = value.find((entry) => isObject(entry) && entry.name === "default");
  return isObject(found) && typeof found.template === "string" ? found.template : undefined;
}

async function tokenizerIn(
  folder: string,
  names: ReadonlySet<string>,
  config: Json,
): Promise<TokenizerSource> {
  const path = (name: string): string => join(folder, name);
  if (names.has("tokenizer.json"))
    return {
      kind: "tokenizer.json",
      json: await readObject(path("tokenizer.json"), mostTokenizerBytes),
      config,
    };
  const pieces = [...names].filter((name) => /^tokenizer.*\.model(\.v\d+)?$/.test(name)).sort();
  if (pieces.length > 0)
    return { kind: "sentencepiece", bytes: await readBytes(path(pieces[0]), mostTokenizerBytes) };
  if (names.has("tekken.json"))
    return { kind: "tekken", json: await readObject(path("tekken.json"), mostTokenizerBytes) };
  return {
    kind: "none",
    lookedFor: ["tokenizer.json", "tokenizer.model", "tekken.json"].map(path),
  };
}
