/** `npm run bench:browser`: ours against wllama in Chromium, on the CPU. See bench/README.md. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { CommandLine } from "../command-line.ts";
import { makeModel } from "../make-model.ts";
import { compare, printerOf, type Row } from "../report.ts";
import { isMix, shapes, type ShapeName } from "../shapes.ts";
import type { Prompt, Rates, Settings } from "./contestant.ts";
import type { EngineName } from "./page.ts";
import { serve } from "./server.ts";

const commandLine =
  new CommandLine(`npm run bench:browser -- [--models 135m-q8_0,…] [--threads 1,2] [--rounds 5] [--steps 64]
                         [--chromium /usr/bin/chromium]
  --models   SHAPE-FORMAT: ${Object.keys(shapes).join(", ")}; any GGUF format, or q4_k_m`);
const root = join(import.meta.dirname, "../..");
const promptTokens = 512;

/** What we use of playwright-core; its own types are there only where it is installed. */
interface Playwright {
  readonly chromium: { launch(options: object): Promise<Browser> };
}
interface Browser {
  version(): string;
  newPage(): Promise<Page>;
  close(): Promise<void>;
}
interface Page {
  on(event: "console", heard: (message: { type(): string; text(): string }) => void): void;
  on(event: "pageerror", heard: (error: Error) => void): void;
  goto(url: string): Promise<unknown>;
  waitForFunction(expression: string): Promise<unknown>;
  setDefaultTimeout(ms: number): void;
  close(): Promise<void>;
  /** The function is sent to the page as text. */
  evaluate<Given, T>(inPage: (given: Given) => Promise<T>, given: Given): Promise<T>;
}

const metrics = { prefill: `prefill ${promptTokens}`, decode: `decode after ${promptTokens}` };
type Metric = keyof typeof metrics;
const metricNames = ["prefill", "decode"] as const satisfies readonly Metric[];

interface Plan {
  readonly rounds: number;
  readonly steps: number;
}
interface Outcome {
  readonly ours: readonly Rates[];
  /** By way. */
  readonly peer: ReadonlyMap<string, readonly Rates[]>;
}

interface Model {
  readonly name: string;
  readonly shape: ShapeName;
  readonly format: string;
}

/** Made models know bytes only: BOS, a space, and a token for each letter. */
const prompt: Prompt = {
  tokens: promptTokens,
  text: Array.from({ length: promptTokens - 2 }, (_, at) => "abcdefghijkl"[(at * 7) % 12]).join(""),
};

/** Where the server has it; it is made where it is not there. */
const urlOf = ({ name }: Model): string => `/bench/models/${name}.gguf`;

function modelOf(name: string): Model {
  const [, shape = "", format = ""] = /^([^-]+)-(.+)$/.exec(name) ?? [];
  if (!Object.hasOwn(shapes, shape) || !isMix(format))
    return commandLine.fail(`unknown model ${name}`);
  const model = { name, shape: shape as ShapeName, format };
  const path = join(root, urlOf(model));
  if (!existsSync(path)) {
    console.error(`making ${path} …`);
    makeModel(model.shape, format, path);
  }
  return model;
}

function install(): void {
  if (existsSync(join(import.meta.dirname, "node_modules/playwright-core/package.json"))) return;
  console.error("installing wllama and playwright-core in bench/browser …");
  const { status } = spawnSync("npm", ["ci"], { cwd: import.meta.dirname, stdio: "inherit" });
  if (status !== 0) commandLine.fail("npm ci in bench/browser failed");
}

/** A page with nothing loaded. */
async function openPage(browser: Browser, origin: string): Promise<Page> {
  const page = await browser.newPage();
  page.setDefaultTimeout(60_000);
  page.on("pageerror", (error) => console.error(`page: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") console.error(`page: ${message.text()}`);
  });
  await page.goto(origin);
  await page.waitForFunction("globalThis.bench");
  return page;
}

/** Rates of all rounds by way, ours and the peer's; they take turns, and the first of a round is the second of the next. */
async function race(page: Page, settings: Settings, plan: Plan): Promise<Outcome> {
  const ways = new Map<EngineName, Map<string, Rates[]>>();
  for (const engine of ["ours", "peer"] as const) {
    const names = await page.evaluate((given) => bench.open(...given), [engine, settings] as const);
    ways.set(engine, new Map(names.map((name) => [name, []])));
  }
  const round = async (steps: number, ...inTurn: readonly EngineName[]): Promise<void> => {
    for (const engine of inTurn)
      for (const [way, rates] of ways.get(engine) ?? []) {
        const task = [engine, way, prompt, steps] as const;
        const rate = await page.evaluate((given) => bench.run(...given), task);
        rates.push(rate);
      }
  };
  await round(Math.min(plan.steps, 32), "ours", "peer");
  for (const each of ways.values()) keepBest(each);
  for (let at = 0; at < plan.rounds; at++)
    await (at % 2 ? round(plan.steps, "peer", "ours") : round(plan.steps, "ours", "peer"));
  const [ours] = ways.get("ours")?.values() ?? [];
  return { ours, peer: ways.get("peer") ?? new Map() };
}

/** Ways that were best at something in the warm-up go on, without it. */
function keepBest(ways: Map<string, Rates[]>): void {
  const all = [...ways.values()].map(([rates]) => rates);
  const best = metricNames.map((metric) => Math.max(...all.map((rates) => rates[metric])));
  for (const [way, rates] of ways)
    if (metricNames.every((metric, at) => rates[0][metric] < best[at])) ways.delete(way);
    else rates.length = 0;
}

function rowOf(metric: Metric, model: Model, threads: number, { ours, peer }: Outcome): Row {
  const rates = (of: readonly Rates[]): number[] => of.map((rate) => rate[metric]);
  const ways = [...peer].map(([way, of]) => [way, rates(of)] as const);
  const { shape, format } = model;
  return { model: shape, format, metric: metrics[metric], threads, ...compare(rates(ours), ways) };
}

const print = printerOf([8, 8, 18, 9, 9, 9, 12, 7]);

async function main(): Promise<void> {
  const text = (value: string) => ({ type: "string", default: value }) as const;
  const values = commandLine.options({
    models: text("135m-q8_0"),
    threads: text("1"),
    rounds: text("5"),
    steps: text("64"),
    chromium: text("/usr/bin/chromium"),
  });
  const threadCounts = commandLine.wholeNumbers("threads", values.threads);
  const [rounds] = commandLine.wholeNumbers("rounds", values.rounds);
  const [steps] = commandLine.wholeNumbers("steps", values.steps);
  const models = values.models.split(",").map(modelOf);
  install();
  await using server = await serve(root);
  const library: string = "playwright-core";
  const { chromium } = (await import(library)) as Playwright;
  const args = ["--no-sandbox", "--disable-gpu"]; // in a container, as root
  const browser = await chromium.launch({ executablePath: values.chromium, args });
  try {
    console.log(`${cpus()[0].model}, ${cpus().length} cores, Chromium ${browser.version()}`);
    print("model", "format", "tokens/s", "threads", "ours", "peer", "its way", "ratio");
    const rows: Row[] = [];
    for (const model of models)
      for (const threads of threadCounts) {
        const page = await openPage(browser, server.origin);
        const settings = { url: urlOf(model), threads, context: 1024 };
        const outcome = await race(page, settings, { rounds, steps });
        await page.close();
        for (const metric of metricNames) {
          const row = rowOf(metric, model, threads, outcome);
          rows.push(row);
          print(...Object.values(row));
        }
      }
    console.log(JSON.stringify({ rows }));
  } finally {
    await browser.close();
  }
}

await main();
