/** Two engines measured in turn, each in a process of its own that does nothing while the other runs. */
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { Command, Reply, Settings } from "./contestant.ts";

export type Metric = "prefill" | "decode" | "deep";
export interface Plan {
  readonly rounds: number;
  readonly metrics: readonly Metric[];
  /** Tokens of the prompt, of an answer, and before an answer at depth. */
  readonly prompt: number;
  readonly steps: number;
  readonly depth: number;
  /** Only the peer's way that was best in the warm-up goes on. */
  readonly oneWay: boolean;
}
/** Tokens a second of one way of an engine, round by round. */
export type Rates = Readonly<Record<Metric, number[]>>;
export interface Outcome {
  readonly ours: Rates;
  /** By way. */
  readonly peer: ReadonlyMap<string, Rates>;
  readonly loadSeconds: { readonly ours: number; readonly peer: number };
  readonly peakMb: { readonly ours: number; readonly peer: number };
  /** Largest share of one core that an engine used while it was the other's turn. */
  readonly idleShare: number;
}

class Racer implements AsyncDisposable {
  readonly rates: Map<string, Rates>;
  readonly #child: ChildProcess;
  readonly loadSeconds: number;

  private constructor(child: ChildProcess, ways: readonly string[], loadSeconds: number) {
    this.#child = child;
    this.loadSeconds = loadSeconds;
    this.rates = new Map(ways.map((way) => [way, { prefill: [], decode: [], deep: [] }] as const));
  }

  static async start(file: string, settings: Settings): Promise<Racer> {
    const child = fork(join(import.meta.dirname, file));
    const { ways, seconds } = await ask(child, { kind: "open", settings }, "opened");
    return new Racer(child, ways, seconds);
  }

  ask<K extends Reply["kind"]>(command: Command, kind: K): Promise<Extract<Reply, { kind: K }>> {
    return ask(this.#child, command, kind);
  }

  /** Ways that are at most a fifth behind the best in the one round so far, or only the best one. */
  drop(oneWay: boolean): void {
    const score = ({ prefill, decode }: Rates): number => prefill[0] * decode[0];
    const best = Math.max(...[...this.rates.values()].map(score));
    for (const [way, rates] of this.rates)
      if (score(rates) < best * (oneWay ? 1 : 0.64)) this.rates.delete(way);
      else for (const list of Object.values(rates)) list.length = 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL"); // nothing to save; native destructors take their time
    if (this.#child.exitCode === null && this.#child.signalCode === null)
      await once(this.#child, "exit");
  }
}

async function ask<K extends Reply["kind"]>(
  child: ChildProcess,
  command: Command,
  kind: K,
): Promise<Extract<Reply, { kind: K }>> {
  const ended = new AbortController();
  child.once("exit", (code, signal) =>
    ended.abort(new Error(`${child.spawnargs[1]} ended: ${code ?? signal}`)),
  );
  child.send(command);
  const [reply] = (await once(child, "message", { signal: ended.signal }).catch((error) => {
    throw ended.signal.aborted ? ended.signal.reason : error;
  })) as [Reply];
  child.removeAllListeners("exit");
  if (reply.kind === "failed") throw new Error(`${child.spawnargs[1]}: ${reply.message}`);
  if (reply.kind !== kind) throw new Error(`expected a reply ${kind}, got ${reply.kind}`);
  return reply as Extract<Reply, { kind: K }>;
}

export async function race(settings: Settings, plan: Plan): Promise<Outcome> {
  await using ours = await Racer.start("ours.ts", settings);
  await using peer = await Racer.start("node-llama-cpp.ts", settings);
  const { prompt, steps, depth, rounds } = plan;
  let idleShare = 0;
  /** One after the other, the first one second in the next round. */
  const inTurn = async (round: number, run: (racer: Racer) => Promise<void>): Promise<void> => {
    for (const active of round % 2 === 0 ? [ours, peer] : [peer, ours]) {
      const idle = active === ours ? peer : ours;
      const before = await idle.ask({ kind: "usage" }, "usage");
      const start = performance.now();
      await run(active);
      const { cpu } = await idle.ask({ kind: "usage" }, "usage");
      idleShare = Math.max(idleShare, (1000 * (cpu - before.cpu)) / (performance.now() - start));
    }
  };
  const short = async (racer: Racer, count: number): Promise<void> => {
    for (const [way, rates] of racer.rates) {
      const rate = await racer.ask({ kind: "short", way, prompt, steps: count }, "short");
      rates.prefill.push(rate.prefill);
      rates.decode.push(rate.decode);
    }
  };
  await inTurn(0, (racer) => short(racer, Math.min(steps, 32)));
  for (const racer of [ours, peer]) racer.drop(plan.oneWay);
  if (plan.metrics.includes("prefill") || plan.metrics.includes("decode"))
    for (let round = 0; round < rounds; round++) await inTurn(round, (one) => short(one, steps));
  if (plan.metrics.includes("deep")) {
    await inTurn(0, async (racer) => {
      for (const way of racer.rates.keys()) await racer.ask({ kind: "fill", way, depth }, "filled");
    });
    for (let round = 0; round < rounds; round++)
      await inTurn(round, async (racer) => {
        for (const [way, rates] of racer.rates)
          rates.deep.push((await racer.ask({ kind: "deep", way, depth, steps }, "deep")).decode);
      });
  }
  const peakMb = async (racer: Racer): Promise<number> =>
    (await racer.ask({ kind: "usage" }, "usage")).peakMb;
  const [own] = ours.rates.values();
  return {
    ours: own,
    peer: peer.rates,
    loadSeconds: { ours: ours.loadSeconds, peer: peer.loadSeconds },
    peakMb: { ours: await peakMb(ours), peer: await peakMb(peer) },
    idleShare,
  };
}
