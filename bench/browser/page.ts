/** What run.ts calls in the page. */
import type { Contestant, Open, Prompt, Rates, Settings } from "./contestant.ts";
import { open as openOurs } from "./ours.ts";
import { open as openWllama } from "./wllama.ts";

export type EngineName = "ours" | "peer";
const engines: Readonly<Record<EngineName, Open>> = { ours: openOurs, peer: openWllama };

export interface Bench {
  /** Loads the model; the names of the engine's ways. */
  open(engine: EngineName, settings: Settings): Promise<readonly string[]>;
  run(engine: EngineName, way: string, prompt: Prompt, steps: number): Promise<Rates>;
}

declare global {
  var bench: Bench;
}

const opened = new Map<string, Contestant>();
globalThis.bench = {
  async open(engine, settings) {
    const ways = Object.entries(await engines[engine](settings));
    for (const [way, contestant] of ways) opened.set(`${engine} ${way}`, contestant);
    return ways.map(([way]) => way);
  },
  async run(engine, way, prompt, steps) {
    const contestant = opened.get(`${engine} ${way}`);
    if (contestant === undefined) throw new Error(`${engine} ${way} is not open`);
    return await contestant.run(prompt, steps);
  },
};
