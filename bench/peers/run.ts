/** `npm run bench:peers`: ours against node-llama-cpp on this machine. See bench/README.md. */
import { spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { cpus } from "node:os";
import { formatBytes } from "../../src/quant/formats.ts";
import { CommandLine } from "../command-line.ts";
import { makeModel } from "../make-model.ts";
import { compare, printerOf, type Row } from "../report.ts";
import { isMix, prefillMacs, shapes, type Mix, type ShapeName } from "../shapes.ts";
import { race, type Metric, type Outcome, type Plan } from "./race.ts";
import { measureRoofs, type Roofs } from "./roofs.ts";

const commandLine =
  new CommandLine(`npm run bench:peers -- [--quick] [--models bundled,1.1b-q4_0,…] [--threads 1,2] [--rounds 5]
                       [--metrics prefill,decode,deep]
  --quick    bundled and 1.1b-q4_0 with 2 threads, without depth
  --models   bundled, or SHAPE-FORMAT: ${Object.keys(shapes).join(", ")}; any GGUF format, or q4_k_m`);
const root = join(import.meta.dirname, "../..");
const everyModel = ["bundled", "1.1b-q4_0", "1.1b-q8_0", "1.1b-q4_k_m", "7b-q4_0"];
const names = {
  prefill: "prefill 512",
  decode: "decode after 512",
  deep: "decode at 4096",
} as const;
const isMetric = (text: string): text is Metric => Object.hasOwn(names, text);

interface Model {
  readonly shape: ShapeName;
  readonly mix: Mix;
  readonly path: string;
}
interface RoofedRow extends Row {
  /** Of what memory (decode; weights only) or the dots (prefill) give. */
  readonly ofRoof: number;
}

function modelOf(name: string): Model {
  const bundled = "models/smollm2-135m-instruct/smollm2-135m-instruct-q4_1.gguf";
  if (name === "bundled") return { shape: "135m", mix: "q4_1", path: join(root, bundled) };
  const [, shape = "", mix = ""] = /^([^-]+)-(.+)$/.exec(name) ?? [];
  if (!Object.hasOwn(shapes, shape) || !isMix(mix))
    return commandLine.fail(`unknown model ${name}`);
  const path = join(root, "bench/models", `${name}.gguf`);
  return { shape: shape as ShapeName, mix, path };
}

/** Bytes of weights that a token reads: all of the file but an embedding that is not the head as well. */
function bytesPerToken({ shape, mix, path }: Model): number {
  const { tied, vocab, hidden } = shapes[shape];
  const format = mix === "q4_k_m" ? "q4_k" : mix;
  return statSync(path).size - (tied ? 0 : formatBytes(format, vocab * hidden));
}

function rowsOf(
  name: string,
  model: Model,
  outcome: Outcome,
  plan: Plan,
  roofs: Roofs,
): RoofedRow[] {
  const { shape, mix } = model;
  return plan.metrics.map((metric) => {
    const ways = [...outcome.peer].map(([way, rates]) => [way, rates[metric]] as const);
    const compared = compare(outcome.ours[metric], ways);
    const roof =
      metric === "prefill"
        ? (1e9 * roofs.gigamacs) / prefillMacs(shapes[shape])
        : (1e9 * roofs.gigabytes) / bytesPerToken(model);
    return {
      model: name === "bundled" ? name : shape,
      format: mix,
      metric: names[metric],
      threads: roofs.threads,
      ...compared,
      ofRoof: compared.ours / roof,
    };
  });
}

const print = printerOf([10, 8, 18, 8, 9, 9, 14, 7, 8, 8]);

function prepareFiles(models: readonly Model[]): void {
  if (!existsSync(join(import.meta.dirname, "node_modules/node-llama-cpp/package.json"))) {
    console.error("installing node-llama-cpp in bench/peers …");
    const { status } = spawnSync("npm", ["ci"], { cwd: import.meta.dirname, stdio: "inherit" });
    if (status !== 0) commandLine.fail("npm ci in bench/peers failed");
  }
  for (const { shape, mix, path } of models) {
    if (existsSync(path)) continue;
    console.error(`making ${path} …`);
    makeModel(shape, mix, path);
  }
}

async function main(): Promise<void> {
  const text = { type: "string" } as const;
  const values = commandLine.options({
    quick: { type: "boolean" },
    models: text,
    threads: text,
    rounds: text,
    metrics: text,
  });
  const list = (given: string | undefined, all: readonly string[], quick: readonly string[]) =>
    given?.split(",") ?? (values.quick ? quick : all);
  const modelNames = list(values.models, everyModel, ["bundled", "1.1b-q4_0"]);
  const threadCounts = commandLine.wholeNumbers(
    "threads",
    values.threads ?? (values.quick ? "2" : "1,2"),
  );
  const asked = list(values.metrics, Object.keys(names), ["prefill", "decode"]);
  const metrics = asked.filter(isMetric);
  const [rounds] = commandLine.wholeNumbers("rounds", values.rounds ?? "5");
  if (metrics.length < asked.length)
    commandLine.fail(
      `--metrics: expected some of ${Object.keys(names).join()}, got ${asked.join()}`,
    );
  const models = modelNames.map((name) => [name, modelOf(name)] as const);
  prepareFiles(models.map(([, model]) => model));
  const quick = values.quick === true;
  const plan: Plan = {
    rounds,
    metrics,
    prompt: 512,
    steps: quick ? 64 : 128,
    depth: 4096,
    oneWay: quick,
  };
  const context = metrics.includes("deep") ? 4096 + 256 : 1024;

  console.log(`${cpus()[0].model}, ${cpus().length} cores, Node ${process.version}`);
  const roofs: Roofs[] = [];
  for (const threads of threadCounts) {
    const roof = await measureRoofs(threads);
    roofs.push(roof);
    const { gigabytes, gigamacs } = roof;
    console.log(
      `roofs, ${threads} threads: ${gigabytes.toFixed(1)} GB/s, ${gigamacs.toFixed(0)} GMAC/s`,
    );
  }
  print(
    "model",
    "format",
    "tokens/s",
    "threads",
    "ours",
    "peer",
    "its way",
    "ratio",
    "to best",
    "of roof",
  );
  const rows: (RoofedRow & { toBest: number })[] = [];
  for (const [name, model] of models) {
    const measured: RoofedRow[] = [];
    for (const roof of roofs) {
      const { path, shape } = model;
      const settings = { path, threads: roof.threads, context, vocab: shapes[shape].vocab };
      const outcome = await race(settings, plan);
      measured.push(...rowsOf(name, model, outcome, plan, roof));
      const { loadSeconds, peakMb, idleShare } = outcome;
      console.error(
        `${name}, ${roof.threads} threads: load ${loadSeconds.ours.toFixed(1)} s (peer ${loadSeconds.peer.toFixed(1)} s), peak ${peakMb.ours.toFixed(0)} MB (peer ${peakMb.peer.toFixed(0)} MB); idle engines used ${(100 * idleShare).toFixed(1)} % of a core`,
      );
    }
    for (const row of measured) {
      const peers = measured.filter(({ metric }) => metric === row.metric).map(({ peer }) => peer);
      const toBest = row.ours / Math.max(...peers);
      const { format, metric, threads, ours, peer, way, ratio, ofRoof } = row;
      print(row.model, format, metric, threads, ours, peer, way, ratio, toBest, ofRoof);
      rows.push({ ...row, toBest });
    }
  }
  console.log(JSON.stringify({ rows, roofs }));
}

await main();
