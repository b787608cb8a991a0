/** Mistral's `tekken.json`: bytes by rank behind the special tokens, as tiktoken merges them. */
import { InputError } from "../base/errors.ts";
import { spell } from "./byte-alphabet.ts";
import { id, list, object, take, takeOptional, text } from "./door.ts";
import { idsOf, type Kind, mergesByRank, type Vocabulary } from "./vocabulary.ts";
import { splitForm } from "./words.ts";

/** Special tokens of files before v7, which do not list them (mistral-common's deprecated special tokens). */
const unlisted =
  "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CALLS] [IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT]";

export function tekkenVocabulary(json: unknown): Vocabulary {
  const file = take(json, object, "tekken.json");
  const config = take(file["config"], object, "tekken.json: config");
  const number = (name: string): number => take(config[name], id, `tekken.json: config.${name}`);
  const vocabSize = number("default_vocab_size");
  const specials = number("default_num_special_tokens");
  const pieces = [
    ...specialPieces(file["special_tokens"], specials),
    ...normalPieces(file["vocab"], Math.max(0, vocabSize - specials)),
  ];
  const kinds = pieces.map((_, id): Kind => (id < specials ? "control" : "normal"));
  const control = idsOf({ pieces, kinds }, "control");
  const eos = control.get("</s>");
  return {
    pieces,
    kinds,
    alphabet: "bytes",
    merges: mergesByRank(idsOf({ pieces, kinds }, "normal"), (id) => id),
    wholeWords: true,
    normalizer: null,
    preTokenizer: splitForm(take(config["pattern"], text, "tekken.json: config.pattern")),
    stripsSpace: false,
    trims: new Map(),
    addsBos: true,
    bos: control.get("<s>"),
    eos: eos === undefined ? [] : [eos],
  };
}

function specialPieces(listed: unknown, count: number): string[] {
  const pieces = Array.from({ length: count }, (_, rank) => `<SPECIAL_${rank}>`);
  const where = "tekken.json: special_tokens";
  const tokens = takeOptional(listed, list(object), where);
  if (!tokens) return unlisted.split(" ").concat(pieces.slice(unlisted.split(" ").length));
  for (const { rank, token_str } of tokens)
    if (take(rank, id, `${where}: rank`) < count)
      pieces[Number(rank)] = take(token_str, text, where);
  return pieces;
}

function normalPieces(listed: unknown, count: number): string[] {
  const where = "tekken.json: vocab";
  const entries = Array.from(take(listed, list(object), where)).slice(0, count);
  if (entries.length < count)
    throw new InputError(
      "broken-vocabulary",
      `${where}: expected at least ${count} entries (default_vocab_size − default_num_special_tokens), got ${entries.length}`,
      { expected: count, got: entries.length },
    );
  return entries.map(({ rank, token_bytes }, at) => {
    if (rank !== at)
      throw new InputError(
        "broken-vocabulary",
        `${where}[${at}].rank: expected ${at}, got ${String(rank)}`,
      );
    return spell(base64(take(token_bytes, text, `${where}[${at}].token_bytes`), `${where}[${at}]`));
  });
}

function base64(text: string, where: string): number[] {
  try {
    return Array.from(atob(text), (unit) => unit.charCodeAt(0));
  } catch (error) {
    throw new InputError(
      "broken-vocabulary",
      `${where}.token_bytes is not base64`,
      {},
      { cause: error },
    );
  }
}
