/** A checkpoint's own chat template: messages to the text of a prompt. */
import { Template } from "@huggingface/jinja";
import { InputError, messageOf } from "../base/errors.ts";

export interface Message {
  readonly role: string;
  readonly content: string;
  /** Whatever else a template asks for: `tool_calls`, `name`, … */
  readonly [key: string]: unknown;
}

export interface RenderOptions {
  readonly tools?: readonly unknown[];
  readonly addGenerationPrompt?: boolean;
  /** What each text of the messages and tools goes through before the template sees it. */
  readonly quote?: (text: string) => string;
}

/** Our `raise_exception` takes the place of the library's, whose error is like any other. */
const prelude = "{% set raise_exception = refuse %}";

export class ChatTemplate {
  readonly #template: Template;
  readonly #tokens: Readonly<Record<"bos_token" | "eos_token", string>>;

  constructor(source: string, { bos, eos }: { readonly bos: string; readonly eos: string }) {
    this.#tokens = { bos_token: bos, eos_token: eos };
    try {
      this.#template = new Template(source);
      this.#template.parsed.body.unshift(...new Template(prelude).parsed.body);
    } catch (error) {
      fail(`cannot be parsed: ${messageOf(error)}; give another template or a raw prompt`, error);
    }
  }

  /** Text for `Tokenizer.encode`. Errors: InputError where the template refuses the messages or cannot render them. */
  render(messages: readonly Message[], options: RenderOptions = {}): string {
    const { tools, addGenerationPrompt = true, quote = (text) => text } = options;
    try {
      return this.#template.render({
        messages: mapTexts(messages, quote),
        tools: tools?.length ? mapTexts(tools, quote) : null, // to some templates [] is a list of tools
        documents: null,
        add_generation_prompt: addGenerationPrompt,
        ...this.#tokens,
        refuse,
      });
    } catch (error) {
      if (error instanceof InputError) throw error;
      fail(`cannot render these messages: ${messageOf(error)}`, error);
    }
  }
}

/** A value with all its texts and names replaced, at any depth. */
function mapTexts(value: unknown, replace: (text: string) => string): unknown {
  if (typeof value === "string") return replace(value);
  if (Array.isArray(value)) return value.map((item) => mapTexts(item, replace));
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value);
  return Object.fromEntries(fields.map(([name, of]) => [replace(name), mapTexts(of, replace)]));
}

function fail(problem: string, cause: unknown): never {
  throw new InputError("chat-template", `the chat template ${problem}`, {}, { cause });
}

function refuse(message: unknown): never {
  const told = `the chat template refuses the messages: ${String(message)}`;
  throw new InputError("chat-template-refused", told, { message });
}
