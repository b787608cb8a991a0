/** Text of ids that arrive one by one. */
import type { Decoder, Tokenizer } from "./tokenizer.ts";

export class StreamDecoder implements Decoder {
  readonly #tokenizer: Pick<Tokenizer, "bytesOf" | "isControl" | "pieceOf">;
  readonly #utf8 = new TextDecoder("utf-8", { ignoreBOM: true }); // or else a leading U+FEFF is lost
  #stripsSpace: boolean;

  /** `stripsSpace`: the first token's piece gives up the one ▁ that it begins with. */
  constructor(
    tokenizer: Pick<Tokenizer, "bytesOf" | "isControl" | "pieceOf">,
    stripsSpace: boolean,
  ) {
    this.#tokenizer = tokenizer;
    this.#stripsSpace = stripsSpace;
  }

  push(id: number): string {
    const bytes = this.#tokenizer.bytesOf(id);
    if (this.#tokenizer.isControl(id)) return "";
    const strips = this.#stripsSpace && this.#tokenizer.pieceOf(id).startsWith("▁");
    this.#stripsSpace = false;
    return this.#utf8.decode(strips ? bytes.subarray(1) : bytes, { stream: true });
  }

  end(): string {
    return this.#utf8.decode();
  }
}
