import { globSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, expect, it } from "vitest";

/** Lowest first (docs/architecture.md). A file imports only from lower lines, or inside its own folder. */
const layers = [
  ["base"],
  ["ir", "quant", "text"],
  ["ops", "plan", "codegen"],
  ["nn", "kernels", "devices"],
  ["models", "compiler", "weights", "runtime"],
  ["engine", "load-options.ts"],
  ["load.ts", "index.ts"],
  ["cli"],
];
const layerOf = new Map(
  layers.flatMap((names, layer) => names.map((name) => [name, layer] as const)),
);
const roomOf = (file: string): string => file.split("/")[1];

const imports = globSync("src/**/*.ts").flatMap((file) => {
  const text = readFileSync(file, "utf8");
  const specifiers = [...text.matchAll(/(?:from|import)[\s(]+"(\.[^"]+)"/g)].map(
    (found) => found[1],
  );
  return specifiers.map((specifier) => ({
    file,
    target: normalize(join(dirname(file), specifier)),
  }));
});

describe("layers", () => {
  it("has a line for every folder and file of src", () => {
    const rooms = new Set(globSync("src/*").map(roomOf));
    expect([...rooms].filter((room) => !layerOf.has(room))).toEqual([]);
  });

  it("imports only from lower lines, or inside the same folder", () => {
    const upward = imports.filter(({ file, target }) => {
      const [from, to] = [roomOf(file), roomOf(target)];
      if (from === to || (from === "index.ts" && to === "load.ts")) return false;
      return (layerOf.get(to) ?? Infinity) >= (layerOf.get(from) ?? -1);
    });
    expect(upward.map(({ file, target }) => `${file} imports ${target}`)).toEqual([]);
  });

  it("imports nothing of Node outside the command line: a browser could load no file that does", () => {
    const files = globSync("src/**/*.ts").filter((file) => roomOf(file) !== "cli");
    const importing = files.filter((file) =>
      /(?:from|import)[\s(]+"node:|\bBuffer[.(]/.test(readFileSync(file, "utf8")),
    );
    expect(importing).toEqual([]);
  });

  it("keeps the plan free of both rivers", () => {
    const rivers = imports.filter(
      ({ file, target }) => roomOf(file) === "plan" && roomOf(target) !== "plan",
    );
    expect(
      rivers.map(({ target }) => target).filter((target) => !target.startsWith("src/quant/")),
    ).toEqual([]);
  });
});
