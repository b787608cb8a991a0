import { parseArgs, type ParseArgsOptionsConfig } from "node:util";

type Values<T extends ParseArgsOptionsConfig> = ReturnType<
  typeof parseArgs<{ options: T }>
>["values"];

/** What a script of this folder is called with; what is wrong ends it with one line and its usage. */
export class CommandLine {
  readonly #usage: string;

  constructor(usage: string) {
    this.#usage = usage;
  }

  fail(problem: string): never {
    console.error(`error: ${problem}\nusage: ${this.#usage}`);
    process.exit(2);
  }

  options<const T extends ParseArgsOptionsConfig>(options: T): Values<T> {
    try {
      return parseArgs<{ options: T }>({ options }).values;
    } catch (error) {
      return this.fail(error instanceof Error ? error.message : String(error));
    }
  }

  /** `1,2` as numbers. */
  wholeNumbers(name: string, text: string, least = 1): number[] {
    const numbers = text.split(",").map(Number);
    if (numbers.every((number) => Number.isInteger(number) && number >= least)) return numbers;
    return this.fail(`--${name}: expected whole numbers from ${least}, got ${text}`);
  }
}
