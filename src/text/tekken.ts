/** Mistral's `tekken.json`: bytes by rank behind the special tokens, as tiktoken merges them. */
import { spell } from "./byte-alphabet.ts";
import { broken, each, id, list, object, optional, record, text } from "./door.ts";
import { type Kind, mergesByRank, type Vocabulary } from "./vocabulary.ts";

const readFile = record({
  config: record({ pattern: text, default_vocab_size: id, default_num_special_tokens: id }),
  vocab: list(object),
  special_tokens: optional(each(record({ rank: id, token_str: text })), undefined),
});

/** Special tokens of files before v7, which do not list them (mistral-common's deprecated special tokens). */
const unlisted =
  "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CALLS] [IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT]"
    .split(" ")
    .map((token_str, rank) => ({ rank, token_str }));

export function tekkenVocabulary(json: unknown): Vocabulary {
  const { config, vocab, special_tokens } = readFile(json, "tekken.json");
  const specials = config.default_num_special_tokens;
  const count = Math.max(0, config.default_vocab_size - specials);
  const wanted = `expected at least ${count} entries (default_vocab_size − default_num_special_tokens)`;
  if (vocab.length < count) broken("tekken.json: vocab", `${wanted}, got ${vocab.length}`);
  const pieces = Array.from({ length: specials }, (_, rank) => `<SPECIAL_${rank}>`);
  for (const { rank, token_str } of special_tokens ?? unlisted)
    if (rank < specials) pieces[rank] = token_str;
  for (let rank = 0; rank < count; rank++) pieces.push(normalPiece(vocab[rank], rank));
  return {
    pieces,
    kinds: pieces.map((_, id): Kind => (id < specials ? "control" : "normal")),
    alphabet: "bytes",
    merges: mergesByRank((id) => id),
    wholeWords: true,
    preTokenizers: [config.pattern],
    addsBos: true,
    bos: ["<s>"],
    eos: ["</s>"],
  };
}

function normalPiece({ rank, token_bytes }: Record<string, unknown>, at: number): string {
  const where = `tekken.json: vocab[${at}]`;
  if (rank !== at) broken(`${where}.rank`, `expected ${at}, got ${String(rank)}`);
  const base64 = text(token_bytes, `${where}.token_bytes`);
  try {
    return spell(Uint8Array.from(atob(base64), (unit) => unit.charCodeAt(0)));
  } catch (error) {
    return broken(`${where}.token_bytes`, "it is not base64", error);
  }
}
