import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { InputError } from "../../src/base/errors.ts";
import { MistralConfig } from "../../src/models/mistral/config.ts";
import { presets, type PresetName } from "../../src/models/mistral/presets.ts";

interface Rule {
  readonly name: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly overrides?: Readonly<Record<string, unknown>>;
  readonly expect?: Readonly<Record<string, unknown>>;
  readonly notice?: readonly string[];
  readonly error?: string;
  readonly mentions?: readonly string[];
}
const file = new URL("../goldens/mistral-tiny/config-rules.json", import.meta.url);
const rules = JSON.parse(readFileSync(file, "utf8")) as Rule[];

function parse({ config, overrides }: Pick<Rule, "config" | "overrides">): {
  config: MistralConfig;
  notices: string;
} {
  const notices: string[] = [];
  const notice = (text: string): void => void notices.push(text);
  const parsed = MistralConfig.parse(config, {
    where: "config.json",
    notice,
    ...(overrides ? { overrides } : {}),
  });
  return { config: parsed, notices: notices.join("\n") };
}

function errorOf(rule: Rule): InputError {
  try {
    parse(rule);
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
  throw new Error(`${rule.name}: no error`);
}

describe("MistralConfig", () => {
  for (const rule of rules.filter(({ error }) => error === undefined))
    it(`derives: ${rule.name}`, () => {
      const { config, notices } = parse(rule);
      expect(config).toMatchObject(rule.expect ?? {});
      for (const piece of rule.notice ?? []) expect(notices).toContain(piece);
    });

  for (const rule of rules.filter(({ error }) => error !== undefined))
    it(`refuses: ${rule.name}`, () => {
      const error = errorOf(rule);
      expect(error.data.field).toBe(rule.error);
      for (const name of ["config.json", rule.error ?? "", ...(rule.mentions ?? [])])
        expect(error.message).toContain(name);
    });

  it("tells once of keys that it does not know", () => {
    const { notices } = parse({ config: { ...rules[0].config, window_dressing: 3, cats: "many" } });
    expect(notices).toContain("window_dressing, cats");
  });

  it("refuses what is no object", () => {
    for (const json of [undefined, null, [], "x", 3])
      expect(() => MistralConfig.parse(json)).toThrow("expected an object");
  });

  it("has presets, and lists them when another is asked for", () => {
    for (const name of Object.keys(presets) as PresetName[])
      expect(MistralConfig.preset(name).head_dim).toBe(128);
    expect(() => MistralConfig.preset("toString" as PresetName)).toThrow(/mistral-7b-v0\.1 or /);
  });
});
