import { availableParallelism } from "node:os";
import { Option } from "commander";
import type { LoadOptions, Prepared } from "../index.ts";
import { mapMemory, planCache } from "../devices/wasm/memory-map.ts";
import { planModule, prepare } from "../load.ts";
import type { Plan } from "../plan/plan.ts";
import { layouts, type Layout } from "../quant/compute-layout.ts";
import { formatBytes } from "../quant/formats.ts";
import { modelPath } from "./model.ts";
import { planOptions } from "./options.ts";
import { printJson, sum, type Definition, type Shell } from "./shell.ts";

type Flags = LoadOptions & { readonly json?: true };

export const command: Definition = {
  about: "Tells what a model is and what it is compiled to; no weights are read.",
  example: "--kv f16 --context 4096",
  options: [...planOptions, new Option("--json", "all of it as data")],
  async run(given: string | undefined, { json, ...flags }: Flags, shell: Shell) {
    const model = modelPath(given);
    const notices: string[] = [];
    const onNotice = (text: string): unknown => notices.push(text);
    await using prepared = await prepare(model, { ...flags, ...shell, onNotice });
    const found = { model, notices, ...inspect(prepared) };
    if (json) printJson(found);
    else process.stdout.write(show(found));
  },
};

type Found = ReturnType<typeof inspect>;

function inspect(prepared: Prepared) {
  const { config, module, weights, checkpoint, compile } = prepared;
  const { plan, probe, compileMs } = planModule(module, weights, compile);
  const tensors = weights.map(({ name, segments }) => ({
    name,
    parts: segments.map(({ format, rows, columns }) => {
      const bytes = rows * formatBytes(format, columns);
      return { format, rows, columns, bytes };
    }),
  }));
  const parts = tensors.flatMap((tensor) => tensor.parts);
  const formats = [...Map.groupBy(parts, ({ format }) => format)].map(([format, own]) => {
    const planned = plan.weights.filter((weight) => weight.format === format);
    return {
      format,
      tensors: own.length,
      bytes: sum(own.map(({ bytes }) => bytes)),
      layout: layouts[format],
      /** Those that lie as plain f32 instead: norms. */
      plain: planned.filter(({ layout }) => layout === "plain").length,
      memory_bytes: sum(planned.map(({ bytes }) => bytes)),
    };
  });
  const { kv, activations, chunk, maxKeys: max_keys } = compile;
  return {
    architecture: module.constructor.name,
    kind: checkpoint.kind,
    files: checkpoint.files,
    config,
    options: { kv, activations, chunk, max_keys },
    parameters: sum(parts.map(({ rows, columns }) => rows * columns)),
    tensors,
    formats,
    memory: memoryOf(plan, prepared),
    probe,
    kernels: kernelsOf(plan),
    programs: plan.programs,
    module_bytes: plan.module.length,
    compile_ms: compileMs,
  };
}

/** Which programs the steps of all functions call, by the number of rows (null: any), and how many steps do. */
function kernelsOf({ functions }: Plan) {
  const steps = functions.flatMap((fn) => fn.steps);
  const uses = steps.map(({ name, variants }) => ({
    kernel: name.split(" ", 1)[0],
    variants: variants.map(({ maxRows, calls }) => ({
      max_rows: maxRows === Number.MAX_SAFE_INTEGER ? null : maxRows,
      programs: [...new Set(calls.map(({ program }) => program))],
    })),
  }));
  const groups = Map.groupBy(uses, (use) => JSON.stringify(use));
  return [...groups.values()].map((same) => ({ ...same[0], steps: same.length }));
}

/** An inspection for people: sections with a title, lines indented. */
function show(found: Found & { readonly model: string; readonly notices: string[] }): string {
  const { tensors, probe, programs } = found;
  const fields = (of: object): string[] => Object.entries(of).map((each) => field(...each));
  const size = `${(found.parameters / 1e6).toFixed(1)} million parameters`;
  const sections = {
    [`${found.model}: ${found.architecture}, ${size}, ${found.kind}`]: found.notices,
    config: fields(found.config),
    "compiled for": fields(found.options),
    [`${tensors.length} tensors`]: found.formats.map(showFormat),
    memory: showMemory(found.memory),
    [`dots: ${probe.dot}; 8-bit weights: ${probe.wide}`]: probe.reasons,
    "kernels: steps that call programs, by rows": found.kernels.map(showKernel),
    [`${programs.length} programs, ${(found.module_bytes / 1024).toFixed(0)} KiB`]: programs,
  };
  const shown = Object.entries(sections).map(([title, lines]) => [title, ...lines].join("\n  "));
  return `${shown.join("\n\n")}\n`;
}

function showFormat(use: Found["formats"][number]): string {
  const { format, tensors, bytes, memory_bytes, layout, plain } = use;
  const place = plain === tensors ? "plain f32" : showLayout(layout);
  return `${format.padEnd(8)}${tensors} parts, ${mebibytes(bytes)} in the file, ${mebibytes(memory_bytes)} in memory: ${place}`;
}

function showLayout(layout: Layout): string {
  if (layout.kind === "float") return `floats of ${layout.bytes} bytes, 8 rows interleaved`;
  const { bits, scales, subs, minimum } = layout;
  const scale = scales === "block" ? "a scale per 32" : `a scale per 256, ${subs} per 32`;
  return `${bits}-bit integers, ${scale}${minimum ? ", minimums" : ""}, 8 rows interleaved`;
}

function showKernel({ kernel, steps, variants }: Found["kernels"][number]): string {
  const shown = variants.map(({ max_rows, programs }) => {
    const limit = max_rows === null ? "" : `up to ${max_rows}: `;
    return `${limit}${programs.join(" + ") || "nothing"}`;
  });
  return `${kernel.padEnd(18)}${String(steps).padStart(4)} ×  ${shown.join("; more: ")}`;
}

/** Bytes by use that a model takes on the device for one sequence. */
function memoryOf(plan: Plan, { cacheTokens: tokens, compile }: Prepared) {
  const { threads = availableParallelism() } = compile;
  const map = mapMemory(plan, threads);
  const cache = planCache(plan, tokens);
  const scratch = threads * map.scratchStride;
  return {
    weights: sum(plan.weightBytes),
    slots: sum(plan.slots.map(({ bytes }) => bytes)),
    arena: Math.max(0, ...plan.functions.map(({ arenaBytes }) => arenaBytes)),
    threads,
    scratch,
    tables: map.end - map.scratch - scratch,
    cache: { tokens, ...cache },
    total: map.end + cache.bytes,
  };
}

const field = (name: string, value: unknown): string => `${name.padEnd(26)}${value}`;
const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

export const memoryTable = (plan: Plan, prepared: Prepared): string[] =>
  showMemory(memoryOf(plan, prepared));

function showMemory({ threads, cache, ...memory }: Found["memory"]): string[] {
  const rows = {
    weights: memory.weights,
    "inputs and outputs": memory.slots,
    arena: memory.arena,
    [`scratch of ${threads} threads`]: memory.scratch,
    "step tables": memory.tables,
    [`cache of ${cache.tokens} tokens`]: cache.bytes,
    total: memory.total,
  };
  return Object.entries(rows).map(([name, bytes]) => field(name, mebibytes(bytes).padStart(14)));
}
