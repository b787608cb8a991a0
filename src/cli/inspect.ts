import type { Command } from "commander";
import { planModule, prepare, type Prepared } from "../index.ts";
import type { CompiledPlan } from "../load.ts";
import type { Plan } from "../plan/plan.ts";
import { layouts, type Layout } from "../quant/compute-layout.ts";
import { formatBytes } from "../quant/formats.ts";
import { mebibytes, planMemory, showMemory } from "./memory-plan.ts";
import { loadOptionsOf, modelPath } from "./model.ts";
import { planOptions, type LoadFlags } from "./options.ts";
import { addCommand, type Shell } from "./shell.ts";

interface InspectFlags extends LoadFlags {
  readonly json?: true;
}

export function addInspect(program: Command, shell: Shell): void {
  addCommand(program, "inspect", planOptions, {
    usage: "[options] [MODEL]",
    about: "Tells what a model is and what it is compiled to; no weights are read.",
    example: "tramontane inspect --kv f16 --context 4096",
  })
    .argument("[model]", "a folder or a file; the bundled model where absent")
    .option("--json", "all of it as data")
    .action(async (model: string | undefined, flags: InspectFlags) => {
      const path = modelPath(model);
      const notices: string[] = [];
      const onNotice = (text: string): unknown => notices.push(text);
      await using prepared = await prepare(path, { ...loadOptionsOf(flags, shell), onNotice });
      const compiled = planModule(prepared.module, prepared.weights, prepared.compile);
      const found = { model: path, notices, ...inspect(prepared, compiled, flags.threads) };
      process.stdout.write(flags.json ? `${JSON.stringify(found)}\n` : show(found));
    });
}

type Inspection = ReturnType<typeof inspect> & {
  readonly model: string;
  readonly notices: readonly string[];
};

function inspect(
  { config, module, weights, checkpoint, cacheTokens, compile }: Prepared,
  { plan, probe, compileMs }: CompiledPlan,
  threads: number | undefined,
) {
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
  return {
    architecture: module.constructor.name,
    kind: checkpoint.kind,
    files: checkpoint.files,
    config: { ...config },
    options: {
      kv: compile.kv,
      activations: compile.activations,
      chunk: compile.chunk,
      max_keys: compile.maxKeys,
    },
    parameters: sum(parts.map(({ rows, columns }) => rows * columns)),
    tensors,
    formats,
    memory: planMemory(plan, cacheTokens, threads),
    probe,
    kernels: kernelsOf(plan),
    programs: plan.programs,
    module_bytes: plan.module.length,
    compile_ms: compileMs,
  };
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** Which programs the steps of all functions call, by the number of rows (null: any), and how many steps do. */
function kernelsOf({ functions }: Plan) {
  const uses = functions
    .flatMap(({ steps }) => steps)
    .map(({ name, variants }) => ({
      kernel: name.split(" ", 1)[0],
      variants: variants.map(({ maxRows, calls }) => ({
        max_rows: maxRows === Number.MAX_SAFE_INTEGER ? null : maxRows,
        programs: [...new Set(calls.map(({ program }) => program))],
      })),
    }));
  const groups = Map.groupBy(uses, (use) => JSON.stringify(use));
  return [...groups.values()].map((same) => ({ ...same[0], steps: same.length }));
}

/** An inspection for people. */
function show(found: Inspection): string {
  const { model, architecture, kind, config, notices, formats, memory, probe, kernels, programs } =
    found;
  const fields = (of: object): string[] =>
    Object.entries(of).map(([field, value]) => `${field.padEnd(26)}${value}`);
  const [millions, kibibytes] = [found.parameters / 1e6, found.module_bytes / 1024];
  const sections: readonly (readonly [string, readonly string[]])[] = [
    [`${model}: ${architecture}, ${millions.toFixed(1)} million parameters, ${kind}`, notices],
    ["config", fields(config)],
    ["compiled for", fields(found.options)],
    [`${found.tensors.length} tensors`, formats.map(showFormat)],
    ["memory", showMemory(memory)],
    [`dots: ${probe.dot}; 8-bit weights: ${probe.wide}`, probe.reasons],
    ["kernels: steps that call programs, by rows", kernels.map(showKernel)],
    [`${programs.length} programs, ${kibibytes.toFixed(0)} KiB`, programs],
  ];
  return sections
    .map(([title, lines]) => `${title}\n${lines.map((line) => `  ${line}\n`).join("")}`)
    .join("\n");
}

function showFormat(use: Inspection["formats"][number]): string {
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

function showKernel({ kernel, steps, variants }: Inspection["kernels"][number]): string {
  const shown = variants.map(({ max_rows, programs }) => {
    const limit = max_rows === null ? "" : `up to ${max_rows}: `;
    return `${limit}${programs.join(" + ") || "nothing"}`;
  });
  return `${kernel.padEnd(18)}${String(steps).padStart(4)} ×  ${shown.join("; more: ")}`;
}
