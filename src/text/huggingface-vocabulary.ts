/** The vocabulary of Hugging Face's `tokenizer.json`, with what `tokenizer_config.json` says about BOS and EOS. */
import type { Json } from "../base/json.ts";
import { isBytePiece } from "./byte-alphabet.ts";
import * as door from "./door.ts";
import { type Kind, mergesInOrder, type Vocabulary } from "./vocabulary.ts";
import { patterns } from "./words.ts";

const { each, id, list, object, optional, record, text, unsupported } = door;

const bpe = (type: unknown, where: string): void => {
  if (type === undefined || type === "BPE") return;
  unsupported(where, `is ${JSON.stringify(type)}; only "BPE" is supported`, "tokenizer-model");
};

/** "a b", or since tokenizers 0.20 ["a", "b"]. */
const texts = list(text);
const pair = door.check(
  "a pair of pieces",
  (value): value is string | readonly string[] =>
    text.is(value) || (texts.is(value) && value.length === 2),
);

/** The members of a `Sequence`, at any depth, or the one form. */
const forms =
  (members: string): door.Read<Json[]> =>
  (value, where) => {
    const form = optional(object, null)(value, where);
    if (form?.type !== "Sequence") return form ? [form] : [];
    return each(forms(members))(form[members], `tokenizer.json: ${members}`).flat();
  };

const flag = optional(door.flag, false);
const token = record({ id, content: text, special: flag, lstrip: flag, rstrip: flag });
const readFile = record({
  model: record({
    type: bpe,
    vocab: object,
    merges: list(pair),
    unk_token: optional(text, undefined),
    byte_fallback: flag,
    ignore_merges: flag,
  }),
  added_tokens: optional(each(token), []),
  normalizer: forms("normalizers"),
  pre_tokenizer: forms("pretokenizers"),
  post_processor: forms("processors"),
  decoder: forms("decoders"),
});

/** The text of a token that is written as such, or as an object with its `content`. */
const contentOf = (token: unknown): string | undefined => {
  const content = object.is(token) ? token.content : token;
  return text.is(content) ? content : undefined;
};
const readConfig = record({
  add_bos_token: optional(door.flag, undefined),
  bos_token: contentOf,
  eos_token: contentOf,
});

export function huggingFaceVocabulary(json: unknown, configJson: unknown): Vocabulary {
  const file = readFile(json, "tokenizer.json");
  const config = readConfig(configJson ?? {}, "tokenizer_config.json");
  const first = file.post_processor.flatMap(specialInFront);
  return {
    ...piecesOf(file),
    alphabet: alphabetOf([...file.pre_tokenizer, ...file.decoder]),
    merges: mergesInOrder(file.model.merges, "tokenizer.json: model.merges"),
    wholeWords: file.model.ignore_merges,
    normalizers: file.normalizer,
    preTokenizers: file.pre_tokenizer.flatMap(rewritten),
    stripsSpace: file.decoder.some(takesSpaceAway),
    trims: new Map(file.added_tokens.map((token) => [token.id, token])),
    addsBos: config.add_bos_token ?? first.length > 0,
    bos: [config.bos_token, ...first],
    eos: [config.eos_token],
  };
}

function piecesOf({ model, added_tokens }: ReturnType<typeof readFile>) {
  const { vocab, unk_token: unknown, byte_fallback } = model;
  const tokens: { readonly piece: string; readonly kind: Kind }[] = [];
  for (const [piece, at] of Object.entries(vocab)) {
    const kind = byte_fallback && isBytePiece(piece) ? "byte" : "normal";
    tokens[id(at, "tokenizer.json: model.vocab")] = { piece, kind };
  }
  for (const { id, content, special } of added_tokens)
    tokens[id] = { piece: content, kind: special ? "control" : "user-defined" };
  const all = Array.from(tokens, (token) => token ?? { piece: "", kind: "control" });
  const kinds = all.map(({ piece, kind }) => (piece === unknown ? "unknown" : kind));
  return { pieces: all.map(({ piece }) => piece), kinds };
}

function alphabetOf(forms: readonly Json[]): Vocabulary["alphabet"] {
  if (forms.some(({ type }) => type === "ByteLevel")) return "bytes";
  const spells = ({ type, pattern }: Json): boolean =>
    type === "Metaspace" || (type === "Replace" && object.is(pattern) && pattern.String === "▁");
  if (forms.some(spells)) return "characters";
  const wanted = "expected ByteLevel, Metaspace or a Replace of ▁";
  const problem = `${wanted}: this is neither byte-level nor SentencePiece BPE`;
  return unsupported("tokenizer.json: decoder:", problem);
}

const byteLevel = "tokenizer.json: pre_tokenizer.ByteLevel";

/** A pre-tokenizer in the words of the library that we use, or better ones. */
function rewritten(form: Json): (Json | string)[] {
  switch (form.type) {
    case "ByteLevel": // the bytes are ours
      if (form.add_prefix_space === true)
        unsupported(byteLevel, "with add_prefix_space is not supported");
      return form.use_regex === false ? [] : [patterns["gpt-2"]];
    case "Digits": // the library's knows ASCII digits only
      return [form.individual_digits === true ? patterns.digit : `${patterns.digit}+`];
    case "Metaspace": // the library's does not split
      return form.split === false ? [form] : [form, "▁[^▁]*"];
    default:
      return [form];
  }
}

const takesSpaceAway = ({ type, content, start, prepend_scheme }: Json): boolean =>
  (type === "Strip" && content === " " && Number(start) > 0) ||
  (type === "Metaspace" && prepend_scheme !== "never");

/** The special token that a TemplateProcessing puts in front. */
function specialInFront({ type, single }: Json): string[] {
  if (type !== "TemplateProcessing" || !Array.isArray(single)) return [];
  const token: unknown = object.is(single[0]) ? single[0].SpecialToken : undefined;
  return object.is(token) && text.is(token.id) ? [token.id] : [];
}
