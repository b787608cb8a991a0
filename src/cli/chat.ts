import { createInterface } from "node:readline/promises";
import { InvalidArgumentError } from "commander";
import { AbortError, InputError, messageOf } from "../base/errors.ts";
import type { Engine, GenerateOptions, Message } from "../index.ts";
import { openEngine } from "./model.ts";
import { generateOptions, samplingOptions, type GenerateFlags } from "./options.ts";
import { showUsage } from "./run.ts";
import type { Definition, Shell } from "./shell.ts";

export const command: Definition = {
  about: "Talks with a model. Ctrl-C stops an answer; a second one, or one at the prompt, leaves.",
  example: "--temperature 0.7 --top-p 0.95",
  options: generateOptions,
  async run(model: string | undefined, flags: GenerateFlags, shell: Shell) {
    await using engine = await openEngine(model, { ...flags, ...shell });
    await new Chat(engine, flags).talk(shell);
  },
};

const help = `/help               this list
/reset              forget the conversation
/stats              numbers of the last answer
/set                the sampling options in use
/set NAME VALUE     change one, as on the command line: /set temperature 0.7
/exit               leave (or Ctrl-D)`;

/** A conversation at the terminal, or from a pipe. */
class Chat {
  readonly #engine: Engine;
  #messages: readonly Message[];
  #options: GenerateOptions;
  #stats = "no answer so far";
  #answering: AbortController | undefined;

  constructor(engine: Engine, { system = [], ...flags }: GenerateFlags) {
    this.#engine = engine;
    this.#messages = system;
    const isSampling = ([name]: [string, unknown]) => name === "stop" || name in samplingOptions;
    this.#options = Object.fromEntries(Object.entries(flags).filter(isSampling));
  }

  async talk(shell: Shell): Promise<void> {
    const { stdin: input, stdout: output } = process;
    const terminal = input.isTTY && output.isTTY ? { output, prompt: "> " } : { prompt: "" };
    const lines = createInterface({ input, ...terminal });
    /** Stops the answer; leaves where there is none, or where it is being stopped already. */
    const interrupt = (): void => {
      if (this.#answering === undefined || this.#answering.signal.aborted) lines.close();
      else this.#answering.abort(new Error("interrupted"));
    };
    lines.on("SIGINT", interrupt);
    shell.signal.addEventListener("abort", interrupt);
    shell.onNotice("/help lists the commands");
    let prompt = (): void => lines.prompt();
    lines.once("close", () => (prompt = () => {})); // lines that came before are still to be heard
    prompt();
    for await (const line of lines) {
      const said = line.trim();
      if (/^\/exit(\s|$)/.test(said)) break;
      if (said !== "") output.write(`${await this.#hear(said)}\n`);
      prompt();
    }
    lines.close();
  }

  /** Obeys a command or answers a message; gives what is to be said at the end. */
  async #hear(line: string): Promise<string> {
    const [command, ...words] = line.split(/\s+/);
    if (!command.startsWith("/")) return await this.#answer(line);
    if (command === "/help") return help;
    if (command === "/stats") return this.#stats;
    if (command === "/set") return this.#set(words);
    if (command !== "/reset") return `unknown command ${command}; /help lists them`;
    this.#messages = this.#messages.filter(({ role }) => role === "system");
    return "the conversation starts anew";
  }

  #set([name, ...values]: readonly string[]): string {
    if (name === undefined) return JSON.stringify(this.#options);
    const options = Object.values(samplingOptions);
    const names = options.map((each) => each.name());
    if (!names.includes(name)) return `unknown option ${name}; expected one of ${names.join(", ")}`;
    const option = options[names.indexOf(name)];
    const value = values.join(" ");
    try {
      const read: unknown = option.parseArg?.(value, undefined);
      this.#options = { ...this.#options, [option.attributeName()]: read };
      return `${name} is ${value}`;
    } catch (error) {
      if (error instanceof InvalidArgumentError) return `${name}: ${error.message}`;
      throw error;
    }
  }

  /** Streams an answer. What an interrupted one said stays part of the conversation. */
  async #answer(content: string): Promise<string> {
    const asked = [...this.#messages, { role: "user", content }];
    this.#answering = new AbortController();
    const options = { ...this.#options, signal: this.#answering.signal };
    let text = "";
    try {
      for await (const delta of this.#engine.chat(asked, options)) {
        if (delta.kind === "end") this.#stats = showUsage(delta.usage);
        if (delta.kind !== "text") continue;
        process.stdout.write(delta.text);
        text += delta.text;
      }
    } catch (error) {
      if (error instanceof InputError && process.stdin.isTTY)
        // the conversation has outgrown the context
        return `error: ${messageOf(error)} (/reset starts anew)`;
      if (!(error instanceof AbortError)) throw error;
    } finally {
      this.#answering = undefined;
    }
    if (text !== "") this.#messages = [...asked, { role: "assistant", content: text }];
    return "";
  }
}
