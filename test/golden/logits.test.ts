import { describe, expect, it } from "vitest";
import type { DeviceName } from "../../src/index.ts";
import {
  casesOf,
  compare,
  goldenPath,
  logitsOf,
  optionsOf,
  readF32,
  rowsOf,
  subject,
  type Case,
} from "./cases.ts";

/** Reference logits of every file layout, on both devices, for several chunks. */
const folders = [
  "mistral-tiny/gqa",
  "mistral-tiny/mha-bf16",
  "mistral-tiny/explicit-head-dim",
  "mistral-tiny/sliding-window",
  "mistral-tiny/tied",
  "mistral-tiny/odd-sizes",
  "mistral-tiny/sharded-f16",
  "mistral-tiny/long",
  "mistral-tiny/consolidated",
  "mistral-tiny/gguf",
  "mistral-tiny/gguf-sliding-window",
  "window",
  "kquants-tiny",
] as const;
const devices: readonly DeviceName[] = ["interpreter", "wasm"];
const chunks = [1, 7, 16, 512];
const isFloat = ({ name, model = "" }: Case): boolean => !/q\d|iq\d/.test(`${name} ${model}`);

/** Cases that share a model and its options, so that it is loaded once. */
function groups(folder: string): Map<string, Case[]> {
  return Map.groupBy(casesOf(folder), ({ model = "", options = {} }) =>
    JSON.stringify([model, options]),
  );
}

for (const device of devices)
  describe(`logits on the device ${device}`, () => {
    for (const folder of folders)
      for (const cases of groups(folder).values()) {
        const [{ model = "", options = {} }] = cases;
        const path = goldenPath(folder, model);
        const chunked = device === "wasm" ? chunks : [512];
        const about = `${folder} ${model} ${JSON.stringify(options)}`;
        if (cases.every(isFloat))
          it(`${about}: equal the reference to 2e-4 of the largest`, async () => {
            await using on = await subject(path, { device, ...optionsOf(cases[0]) });
            for (const each of cases) {
              const reference = readF32(goldenPath(folder, each.logitsFloat64 ?? each.logits));
              for (const chunk of chunked) {
                const ours = rowsOf(await logitsOf(on, each.ids, chunk), each);
                const difference = compare(reference, ours, each.shape[1]);
                expect(difference.relative, `${each.name}, chunk ${chunk}`).toBeLessThanOrEqual(
                  2e-4,
                );
                expect(difference.wrongChoices, `${each.name}, chunk ${chunk}`).toBe(0);
              }
            }
          });
        else
          it(`${about}: with two digits equal the reference to 1e-3 of the largest`, async () => {
            await using on = await subject(path, {
              device,
              activations: "i16",
              ...optionsOf(cases[0]),
            });
            for (const each of cases) {
              const ours = await logitsOf(on, each.ids, 16);
              const difference = compare(
                readF32(goldenPath(folder, each.logits)),
                ours,
                each.shape[1],
              );
              expect(difference.relative, each.name).toBeLessThanOrEqual(1e-3);
            }
          });
      }
  });

describe("logits with one int8 digit", () => {
  for (const [name, cases] of groups("mistral-tiny/gguf")) {
    if (cases.every(isFloat)) continue;
    it(`${name}: are no worse than 1.2 × the simulation of int8 activations`, async () => {
      await using on = await subject(goldenPath("mistral-tiny/gguf", cases[0].model ?? ""));
      // One row is one draw of the rounding's noise: the rows of all prompts of a file are judged together.
      const sums = { ours: { kl: 0, squares: 0 }, bar: { kl: 0, squares: 0 } };
      for (const each of cases) {
        const bar = each.int8Activations;
        if (bar === undefined) continue;
        const [rows, vocab] = each.shape;
        const reference = readF32(goldenPath("mistral-tiny/gguf", each.logits));
        const ours = compare(reference, await logitsOf(on, each.ids, 512), vocab);
        sums.ours.kl += rows * ours.klMean;
        sums.ours.squares += rows * ours.rms ** 2;
        sums.bar.kl += rows * bar.klMean;
        sums.bar.squares += rows * bar.rms ** 2;
      }
      expect(sums.ours.kl, "mean KL").toBeLessThanOrEqual(1.2 * sums.bar.kl);
      expect(Math.sqrt(sums.ours.squares), "rms").toBeLessThanOrEqual(
        1.2 * Math.sqrt(sums.bar.squares),
      );
    });
  }

  /** Mean KL of llama.cpp over the 30 rows of each file: test/goldens/kquants-tiny/README.md. */
  const llamaCpp: Readonly<Record<string, number>> = {
    q2_k: 1.7e-3,
    q3_k_s: 1.5e-3,
    q3_k_m: 1.8e-3,
    q4_k_s: 2.0e-3,
    q4_k_m: 1.9e-3,
    q5_k_m: 1.8e-3,
    q6_k: 1.8e-3,
    iq4_nl: 1.2e-3,
    iq4_xs: 2.3e-3,
  };
  for (const [mix, bar] of Object.entries(llamaCpp))
    it(`kquants-tiny ${mix}: the mean KL is no worse than 1.2 × that of llama.cpp`, async () => {
      const model = `model-${mix}.gguf`;
      await using on = await subject(goldenPath("kquants-tiny", model));
      const [sums, rows] = [[] as number[], [] as number[]];
      for (const each of casesOf("kquants-tiny").filter((one) => one.model === model)) {
        const reference = readF32(goldenPath("kquants-tiny", each.logits));
        const ours = compare(reference, await logitsOf(on, each.ids, 512), each.shape[1]);
        sums.push(each.shape[0] * ours.klMean);
        rows.push(each.shape[0]);
      }
      const total = (of: readonly number[]): number => of.reduce((a, b) => a + b, 0);
      const mean = total(sums) / total(rows);
      console.log(`${mix}: mean KL, int8: ${mean.toExponential(2)} over ${total(rows)} rows`);
      expect(mean).toBeLessThanOrEqual(1.2 * bar);
    });
});
