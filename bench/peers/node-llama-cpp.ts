/** node-llama-cpp as a contestant: native llama.cpp, no GPU, with and without flash attention. */
import { serve, type Contestant, type Settings } from "./contestant.ts";

/** What we use of it; its own types are there only where it is installed. */
interface NodeLlamaCpp {
  getLlama(options: object): Promise<{ loadModel(options: object): Promise<Model> }>;
}
interface Model {
  createContext(options: object): Promise<{ getSequence(): Sequence }>;
}
interface Sequence {
  readonly nextTokenIndex: number;
  clearHistory(): Promise<void>;
  eraseContextTokenRanges(ranges: { start: number; end: number }[]): Promise<void>;
  evaluateWithoutGeneratingNewTokens(ids: readonly number[]): Promise<void>;
  /** Evaluates, chooses a token and gives it; goes on with the token that it is sent instead. */
  evaluate(ids: number[], options: object): AsyncGenerator<number, void, number | undefined>;
}

const contestant = (sequence: Sequence): Contestant => ({
  clear: () => sequence.clearHistory(),
  prefill: (ids) => sequence.evaluateWithoutGeneratingNewTokens(ids),
  async decode([first, ...rest]) {
    const choices = sequence.evaluate([first], { temperature: 0, yieldEogToken: true });
    await choices.next();
    for (const id of rest) await choices.next(id);
    await choices.return();
  },
  truncate: (length) =>
    sequence.eraseContextTokenRanges([{ start: length, end: sequence.nextTokenIndex }]),
});

async function open({ path, threads, context }: Settings): Promise<Record<string, Contestant>> {
  const name: string = "node-llama-cpp";
  const { getLlama } = (await import(name)) as NodeLlamaCpp;
  const settings = { gpu: false, build: "never", logLevel: "warn", maxThreads: threads };
  const llama = await getLlama(settings);
  const model = await llama.loadModel({ modelPath: path, useMmap: true });
  const way = async (flashAttention: boolean): Promise<Contestant> => {
    const options = { contextSize: context, batchSize: 512, threads, flashAttention };
    return contestant((await model.createContext(options)).getSequence());
  };
  return { flash: await way(true), plain: await way(false) };
}

serve(open);
