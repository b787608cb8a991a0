/** Where a tokenizer's data came from. `weights/` finds it beside or inside the checkpoint, `tokenizer.ts` builds from it. */
export type TokenizerSource =
  /** Hugging Face: parsed `tokenizer.json` and, where present, `tokenizer_config.json`. */
  | { readonly kind: "tokenizer.json"; readonly json: unknown; readonly config: unknown }
  /** GGUF metadata, keys as in the file (`tokenizer.ggml.tokens`, `.merges`, `.scores`, `.token_type`, …). */
  | { readonly kind: "gguf"; readonly metadata: ReadonlyMap<string, unknown> }
  /** SentencePiece model (protocol buffer). */
  | { readonly kind: "sentencepiece"; readonly bytes: Uint8Array }
  /** Mistral's `tekken.json`, parsed. */
  | { readonly kind: "tekken"; readonly json: unknown }
  /** Nothing was found; `lookedFor` names the files that would do. */
  | { readonly kind: "none"; readonly lookedFor: readonly string[] };
