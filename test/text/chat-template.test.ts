import { existsSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { InputError } from "../../src/base/errors.ts";
import { ChatTemplate, type Message } from "../../src/text/chat-template.ts";

interface Case {
  readonly template: string;
  readonly name: string;
  readonly messages: readonly Message[];
  readonly tools?: readonly unknown[];
  readonly add_generation_prompt: boolean;
  readonly bos_token: string;
  readonly eos_token: string;
  readonly expected?: string;
  readonly error?: { readonly kind: string; readonly message: string };
  readonly json_lossless_request?: boolean;
  readonly python_specific?: boolean;
}

function itRenders(folder: string): void {
  const { cases } = JSON.parse(readFileSync(`${folder}/cases.json`, "utf8")) as { cases: Case[] };
  const render = (each: Case): string => {
    const source = readFileSync(`${folder}/${each.template}`, "utf8");
    const template = new ChatTemplate(source, { bos: each.bos_token, eos: each.eos_token });
    return template.render(each.messages, {
      tools: each.tools ?? [],
      addGenerationPrompt: each.add_generation_prompt,
    });
  };

  for (const template of new Set(cases.map(({ template }) => template)))
    it.each(cases.filter((each) => each.template === template))(`${template}: $name`, (each) => {
      const incomplete = each.name === "tool-call-no-content-key"; // a Message has content
      if (each.error?.kind === "raise_exception") {
        expect(() => render(each)).toThrow(InputError);
        expect(() => render(each)).toThrow(each.error.message);
      } else if (each.python_specific || incomplete) {
        try {
          render(each);
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
        }
      } else if (!each.json_lossless_request) expect(render(each)).toBe(each.expected);
    });
}

const templateOf = (source: string): ChatTemplate =>
  new ChatTemplate(source, { bos: "<s>", eos: "</s>" });

describe("chat templates", () => {
  beforeAll(() => vi.useFakeTimers({ now: new Date(2025, 2, 4, 5, 6, 7), toFake: ["Date"] }));
  afterAll(() => vi.useRealTimers());

  describe("render the committed conversations as transformers does", () => {
    itRenders("test/goldens/chat-templates");
  });

  describe.skipIf(!existsSync("../shared/reference"))(
    "render all reference conversations (only where ../shared/reference is mounted)",
    () => {
      if (existsSync("../shared/reference")) itRenders("../shared/reference/chat-templates");
    },
  );

  it("ask for an answer unless told otherwise", () => {
    const template = templateOf("{% if add_generation_prompt %}yes{% endif %}{{ bos_token }}");
    expect(template.render([])).toBe("yes<s>");
    expect(template.render([], { addGenerationPrompt: false })).toBe("<s>");
  });

  it("pass their own refusal on, from a macro too", () => {
    const template = templateOf(
      "{% macro check() %}{{ raise_exception('no system role') }}{% endmacro %}{{ check() }}",
    );
    const told = "the chat template refuses the messages: no system role";
    expect(() => template.render([])).toThrow(told);
    expect(() => template.render([])).toThrow(InputError);
  });

  it("take an empty list of tools for none", () => {
    const template = templateOf("{% if tools is not none %}tools{% else %}none{% endif %}");
    expect([[], [{}]].map((tools) => template.render([], { tools }))).toEqual(["none", "tools"]);
  });

  it("keep the white space at their beginning", () => {
    expect(templateOf("\n  a").render([])).toBe("\n  a");
  });

  it("say what is wrong when they cannot be parsed or rendered", () => {
    expect(() => templateOf("{% if %}")).toThrow(/the chat template cannot be parsed: .+/);
    expect(() => templateOf("{{ nothing() }}").render([])).toThrow(
      /the chat template cannot render these messages: .+/,
    );
  });
});
