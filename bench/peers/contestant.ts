/** What an engine must do to be measured, and how it is measured: in a process of its own that obeys messages. */
export interface Settings {
  readonly path: string;
  readonly threads: number;
  readonly context: number;
  readonly vocab: number;
}

/** One sequence of one engine. */
export interface Contestant {
  clear(): Promise<void>;
  /** Appends tokens, as many at once as the engine likes. */
  prefill(ids: readonly number[]): Promise<void>;
  /** Appends tokens one by one; after each the engine also chooses a next one greedily. */
  decode(ids: readonly number[]): Promise<void>;
  /** Keeps the first `length` tokens. */
  truncate(length: number): Promise<void>;
}
/** The ways to run an engine, by name; the best counts. */
export type Open = (settings: Settings) => Promise<Readonly<Record<string, Contestant>>>;

export type Command =
  | { readonly kind: "open"; readonly settings: Settings }
  | {
      readonly kind: "short";
      readonly way: string;
      readonly prompt: number;
      readonly steps: number;
    }
  | { readonly kind: "fill"; readonly way: string; readonly depth: number }
  | { readonly kind: "deep"; readonly way: string; readonly depth: number; readonly steps: number }
  | { readonly kind: "usage" };
export type Reply =
  | { readonly kind: "opened"; readonly ways: readonly string[]; readonly seconds: number }
  /** Tokens a second. */
  | { readonly kind: "short"; readonly prefill: number; readonly decode: number }
  | { readonly kind: "filled" }
  | { readonly kind: "deep"; readonly decode: number }
  /** Seconds of processor time and MB of memory, so far. */
  | { readonly kind: "usage"; readonly cpu: number; readonly peakMb: number }
  | { readonly kind: "failed"; readonly message: string };

/** The same ids for all; above special tokens and bytes. */
const tokensOf =
  (vocab: number) =>
  (count: number, first: number): number[] =>
    Array.from({ length: count }, (_, at) => 260 + (((first + at) * 7919) % (vocab - 260)));

async function perSecond(count: number, work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return (1000 * count) / (performance.now() - start);
}

/** Obeys the parent process, one command after the other. */
export function serve(open: Open): void {
  let ways: Readonly<Record<string, Contestant>> = {};
  let tokens = tokensOf(261);
  const obey = async (command: Command): Promise<Reply> => {
    switch (command.kind) {
      case "open": {
        const start = performance.now();
        ways = await open(command.settings);
        tokens = tokensOf(command.settings.vocab);
        const seconds = (performance.now() - start) / 1000;
        return { kind: "opened", ways: Object.keys(ways), seconds };
      }
      case "short": {
        const { prompt, steps } = command;
        const one = ways[command.way];
        await one.clear();
        const prefill = await perSecond(prompt, () => one.prefill(tokens(prompt, 0)));
        const decode = await perSecond(steps, () => one.decode(tokens(steps, prompt)));
        return { kind: "short", prefill, decode };
      }
      case "fill":
        await ways[command.way].clear();
        await ways[command.way].prefill(tokens(command.depth, 0));
        return { kind: "filled" };
      case "deep": {
        const { depth, steps } = command;
        const decode = await perSecond(steps, () => ways[command.way].decode(tokens(steps, depth)));
        await ways[command.way].truncate(depth);
        return { kind: "deep", decode };
      }
      case "usage": {
        const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
        return { kind: "usage", cpu: (userCPUTime + systemCPUTime) / 1e6, peakMb: maxRSS / 1024 };
      }
      default:
        return command satisfies never;
    }
  };
  process.on("message", (command: Command) => {
    obey(command).then(
      (reply) => process.send?.(reply),
      (error: unknown) => {
        const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
        process.send?.({ kind: "failed", message } satisfies Reply);
      },
    );
  });
}
