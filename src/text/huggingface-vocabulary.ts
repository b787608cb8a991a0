/** The vocabulary of Hugging Face's `tokenizer.json`, with what `tokenizer_config.json` says about BOS and EOS. */
import { UnsupportedError } from "../base/errors.ts";
import {
  type Check,
  id,
  list,
  object,
  take,
  takeIds,
  takeOptional,
  text,
  yesOrNo,
} from "./door.ts";
import {
  type Form,
  idsOf,
  type Kind,
  type Merge,
  mergesInOrder,
  splitPair,
  type Trim,
  type Vocabulary,
} from "./vocabulary.ts";
import { isBytePiece } from "./word-encoder.ts";
import { patterns, sequenceForm, splitForm } from "./words.ts";

type Json = Readonly<Record<string, unknown>>;

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
  readonly trim: Trim;
}

export function huggingFaceVocabulary(json: unknown, configJson: unknown): Vocabulary {
  const file = take(json, object, "tokenizer.json");
  const config = takeOptional(configJson, object, "tokenizer_config.json") ?? {};
  const model = take(file["model"], object, "tokenizer.json: model");
  if (model["type"] !== undefined && model["type"] !== "BPE")
    throw new UnsupportedError(
      "tokenizer-model",
      `tokenizer.json: model.type is ${JSON.stringify(model["type"])}; only "BPE" is supported`,
    );
  const added = addedTokens(file["added_tokens"]);
  const { pieces, kinds } = piecesOf(model, added);
  const decoders = flatten(formOf(file, "decoder"), "decoders");
  const preTokenizers = flatten(formOf(file, "pre_tokenizer"), "pretokenizers");
  const alphabet = alphabetOf([...preTokenizers, ...decoders]);
  return {
    pieces,
    kinds,
    alphabet,
    merges: mergesOf(model, idsOf({ pieces, kinds }, "normal")),
    wholeWords: flag(model, "ignore_merges") ?? false,
    normalizer: formOf(file, "normalizer"),
    preTokenizer: sequenceForm(preTokenizers.flatMap(rewritten)),
    stripsSpace: decoders.some(takesSpaceAway),
    trims: new Map(added.map(({ id, trim }) => [id, trim])),
    ...beginAndEnd(formOf(file, "post_processor"), config, pieces, kinds),
  };
}

function addedTokens(json: unknown): AddedToken[] {
  const where = "tokenizer.json: added_tokens";
  return Array.from(takeOptional(json, list(object), where) ?? [], (token, at) => ({
    id: take(token["id"], id, `${where}[${at}].id`),
    content: take(token["content"], text, `${where}[${at}].content`),
    special: token["special"] === true,
    trim: { left: token["lstrip"] === true, right: token["rstrip"] === true },
  }));
}

function piecesOf(model: Json, added: readonly AddedToken[]): { pieces: string[]; kinds: Kind[] } {
  const where = "tokenizer.json: model.vocab";
  const pieces: string[] = [];
  const kinds: Kind[] = [];
  const put = (at: number, piece: string, kind: Kind): void => {
    pieces[at] = piece;
    kinds[at] = kind;
  };
  const fallsBack = flag(model, "byte_fallback") ?? false;
  for (const [piece, at] of Object.entries(take(model["vocab"], object, where)))
    put(take(at, id, where), piece, fallsBack && isBytePiece(piece) ? "byte" : "normal");
  const unknown = takeOptional(model["unk_token"], text, "tokenizer.json: model.unk_token");
  for (const { id, content, special } of added)
    put(id, content, content === unknown ? "unknown" : special ? "control" : "user-defined");
  if (unknown !== undefined && pieces.includes(unknown))
    put(pieces.indexOf(unknown), unknown, "unknown");
  for (let at = 0; at < pieces.length; at++) if (pieces[at] === undefined) put(at, "", "control");
  return { pieces, kinds };
}

/** Merges are "a b", or since tokenizers 0.20 ["a", "b"]. */
function mergesOf(model: Json, ids: ReadonlyMap<string, number>): Merge[] {
  const where = "tokenizer.json: model.merges";
  const pair: Check<string | readonly string[]> = {
    expected: "a pair of pieces",
    is: (value): value is string | readonly string[] =>
      typeof value === "string" ||
      (Array.isArray(value) && value.length === 2 && value.every(text.is)),
  };
  const pairs = Array.from(take(model["merges"], list(pair), where), (pair) =>
    typeof pair === "string" ? splitPair(pair) : ([pair[0], pair[1]] as const),
  );
  return mergesInOrder(pairs, ids, where);
}

function alphabetOf(forms: readonly Json[]): Vocabulary["alphabet"] {
  if (forms.some(({ type }) => type === "ByteLevel")) return "bytes";
  const spells = forms.some(
    ({ type, pattern }) =>
      type === "Metaspace" ||
      (type === "Replace" && object.is(pattern) && pattern["String"] === "▁"),
  );
  if (spells) return "characters";
  throw new UnsupportedError(
    "tokenizer-rules",
    "tokenizer.json: decoder: expected ByteLevel, Metaspace or a Replace of ▁: this is neither byte-level nor SentencePiece BPE",
  );
}

/** A pre-tokenizer in the words of the library that we use, or better ones. */
function rewritten(form: Json): Json[] {
  switch (form["type"]) {
    case "ByteLevel": // the bytes are ours
      if (form["add_prefix_space"] === true)
        throw new UnsupportedError(
          "tokenizer-rules",
          "tokenizer.json: pre_tokenizer: ByteLevel with add_prefix_space is not supported",
        );
      return form["use_regex"] === false ? [] : [splitForm(patterns["gpt-2"])];
    case "Digits": // the library's knows ASCII digits only
      return [
        splitForm(form["individual_digits"] === true ? patterns.digit : `${patterns.digit}+`),
      ];
    case "Metaspace": // the library's does not split
      return form["split"] === false ? [form] : [form, splitForm("▁[^▁]*")];
    default:
      return [form];
  }
}

const takesSpaceAway = (decoder: Json): boolean =>
  (decoder["type"] === "Strip" && decoder["content"] === " " && Number(decoder["start"]) > 0) ||
  (decoder["type"] === "Metaspace" && decoder["prepend_scheme"] !== "never");

type BeginAndEnd = Pick<Vocabulary, "addsBos" | "bos" | "eos">;

function beginAndEnd(
  postProcessor: Form,
  config: Json,
  pieces: readonly string[],
  kinds: readonly Kind[],
): BeginAndEnd {
  const specials = idsOf({ pieces, kinds }, "control", "unknown", "user-defined");
  const named = (name: string): number | undefined => {
    const token = config[name];
    const content = object.is(token) ? token["content"] : token;
    return typeof content === "string" ? specials.get(content) : undefined;
  };
  const first = firstSpecial(postProcessor);
  const eos = takeIds([named("eos_token")], pieces.length, "tokenizer_config.json: eos_token");
  return {
    addsBos:
      takeOptional(config["add_bos_token"], yesOrNo, "tokenizer_config.json: add_bos_token") ??
      first !== undefined,
    bos: named("bos_token") ?? (first === undefined ? undefined : specials.get(first)),
    eos,
  };
}

/** The special token that a TemplateProcessing puts in front. */
function firstSpecial(postProcessor: Form): string | undefined {
  for (const { type, single } of flatten(postProcessor, "processors")) {
    if (type !== "TemplateProcessing" || !Array.isArray(single)) continue;
    const token: unknown = object.is(single[0]) ? single[0]["SpecialToken"] : undefined;
    if (object.is(token) && typeof token["id"] === "string") return token["id"];
  }
  return undefined;
}

const formOf = (file: Json, name: string): Form =>
  takeOptional(file[name], object, `tokenizer.json: ${name}`) ?? null;

const flag = (model: Json, name: string): boolean | undefined =>
  takeOptional(model[name], yesOrNo, `tokenizer.json: model.${name}`);

/** The members of a `Sequence`, at any depth, or the one form. */
function flatten(form: Form, members: string): Json[] {
  if (form === null) return [];
  if (form["type"] !== "Sequence") return [form];
  const where = `tokenizer.json: ${members}`;
  return Array.from(take(form[members], list(object), where)).flatMap((inner) =>
    flatten(inner, members),
  );
}
