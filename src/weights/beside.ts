import { join } from "node:path";
import type { TokenizerSource } from "../text/source.ts";
import { mostTokenizerBytes, namesIn, readBytes, readObject, readText } from "./file.ts";
import { isObject, type Json } from "./json.ts";

/** What lies beside the weights of a checkpoint; each part is read when it is asked for. */
export class Beside {
  readonly #folder: string;
  readonly #names: ReadonlySet<string>;
  #tokenizerConfig: Promise<Json> | undefined;

  private constructor(folder: string, names: ReadonlySet<string>) {
    this.#folder = folder;
    this.#names = names;
  }

  static async in(folder: string): Promise<Beside> {
    return new Beside(folder, new Set(await namesIn(folder)));
  }

  async tokenizer(): Promise<TokenizerSource> {
    const path = (name: string): string => join(this.#folder, name);
    if (this.#names.has("tokenizer.json"))
      return {
        kind: "tokenizer.json",
        json: await readObject(path("tokenizer.json"), mostTokenizerBytes),
        config: await this.#configOfTokenizer(),
      };
    const models = [...this.#names].filter((name) => /^tokenizer.*\.model(\.v\d+)?$/.test(name));
    const [model] = models.sort();
    if (model !== undefined)
      return { kind: "sentencepiece", bytes: await readBytes(path(model), mostTokenizerBytes) };
    if (this.#names.has("tekken.json"))
      return { kind: "tekken", json: await readObject(path("tekken.json"), mostTokenizerBytes) };
    return {
      kind: "none",
      lookedFor: ["tokenizer.json", "tokenizer.model", "tekken.json"].map(path),
    };
  }

  /** Jinja text. */
  async chatTemplate(): Promise<string | undefined> {
    if (this.#names.has("chat_template.jinja"))
      return await readText(join(this.#folder, "chat_template.jinja"));
    return templateOf((await this.#configOfTokenizer()).chat_template);
  }

  /** `config` is the folder's config.json. */
  async specialIds(config: Json): Promise<SpecialIds> {
    const generation = await this.#optional("generation_config.json");
    const ids = (field: string): number[] => idsOf(generation[field] ?? config[field]);
    return { bos: ids("bos_token_id")[0], eos: ids("eos_token_id") };
  }

  #configOfTokenizer(): Promise<Json> {
    return (this.#tokenizerConfig ??= this.#optional("tokenizer_config.json"));
  }

  async #optional(name: string): Promise<Json> {
    return this.#names.has(name) ? await readObject(join(this.#folder, name)) : {};
  }
}

/** Ids that begin a text and that end an answer. */
export interface SpecialIds {
  readonly bos: number | undefined;
  readonly eos: readonly number[];
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
