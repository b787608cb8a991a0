/** A checkpoint's own chat template: messages to the text of a prompt. */
import { Template } from "@huggingface/jinja";
import { InputError, messageOf } from "../base/errors.ts";

export interface Message {
  readonly role: string;
  readonly content: string;
  /** Whatever else a template asks for: `tool_calls`, `name`, … */
  readonly [key: string]: unknown;
}

/** Our `raise_exception` takes the place of the library's, whose error is like any other. */
const prelude = "{% set raise_exception = refuse %}";

export class ChatTemplate {
  readonly #template: Template;
  readonly #tokens: { readonly bos: string; readonly eos: string };

  constructor(source: string, tokens: { readonly bos: string; readonly eos: string }) {
    this.#tokens = tokens;
    try {
      this.#template = new Template(source);
      this.#template.parsed.body.unshift(...new Template(prelude).parsed.body);
    } catch (error) {
      throw new InputError(
        "chat-template",
        `the chat template cannot be parsed: ${messageOf(error)}; give another template or a raw prompt`,
        {},
        { cause: error },
      );
    }
  }

  render(
    messages: readonly Message[],
    options: { readonly tools?: readonly unknown[]; readonly addGenerationPrompt?: boolean } = {},
  ): string {
    try {
      return this.#template.render({
        messages,
        tools: options.tools?.length ? options.tools : null, // to some templates [] is a list of tools
        documents: null,
        add_generation_prompt: options.addGenerationPrompt ?? true,
        bos_token: this.#tokens.bos,
        eos_token: this.#tokens.eos,
        refuse,
      });
    } catch (error) {
      if (error instanceof InputError) throw error;
      throw new InputError(
        "chat-template",
        `the chat template cannot render these messages: ${messageOf(error)}`,
        {},
        { cause: error },
      );
    }
  }
}

function refuse(message: unknown): never {
  throw new InputError(
    "chat-template-refused",
    `the chat template refuses the messages: ${String(message)}`,
    { message },
  );
}
