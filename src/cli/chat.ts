import { createInterface, type Interface } from "node:readline/promises";
import { InvalidArgumentError, type Command } from "commander";
import { AbortError, InputError, messageOf } from "../base/errors.ts";
import type { Engine, GenerateOptions, Message, Usage } from "../index.ts";
import { openEngine } from "./model.ts";
import { generateOptions, samplingOf, samplingOptions, type GenerateFlags } from "./options.ts";
import { showUsage } from "./run.ts";
import { addCommand, notice, type Shell } from "./shell.ts";

export function addChat(program: Command, shell: Shell): void {
  addCommand(program, "chat", generateOptions, {
    usage: "[options] [MODEL]",
    about:
      "Talks with a model. Ctrl-C stops an answer; a second one, or one at the prompt, leaves.",
    example: "tramontane chat --temperature 0.7 --top-p 0.95",
  })
    .argument("[model]", "a folder or a file; the bundled model where absent")
    .action(async (model: string | undefined, flags: GenerateFlags) => {
      const { engine: opened } = await openEngine(model, flags, shell);
      await using engine = opened;
      await new Chat(engine, flags, shell).talk();
    });
}

const help = `/help               this list
/reset              forget the conversation
/stats              numbers of the last answer
/set                the sampling options in use
/set NAME VALUE     change one, as on the command line: /set temperature 0.7
/exit               leave (or Ctrl-D)`;

/** A conversation at the terminal, or from a pipe. */
class Chat {
  readonly #engine: Engine;
  readonly #shell: Shell;
  readonly #first: readonly Message[];
  #messages: Message[];
  #options: GenerateOptions;
  #usage: Usage | undefined;
  #answering: AbortController | undefined;

  constructor(engine: Engine, { system, ...flags }: GenerateFlags, shell: Shell) {
    this.#engine = engine;
    this.#shell = shell;
    this.#first = system === undefined ? [] : [{ role: "system", content: system }];
    this.#messages = [...this.#first];
    this.#options = samplingOf(flags);
  }

  async talk(): Promise<void> {
    const isTerminal = process.stdin.isTTY && process.stdout.isTTY;
    const lines = createInterface({
      input: process.stdin,
      ...(isTerminal ? { output: process.stdout } : {}),
      prompt: isTerminal ? "> " : "",
    });
    const interrupt = (): void => this.#interrupt(lines);
    lines.on("SIGINT", interrupt);
    this.#shell.signal.addEventListener("abort", interrupt);
    notice("/help lists the commands", this.#shell);
    let prompt = (): void => lines.prompt();
    lines.once("close", () => (prompt = () => {})); // lines that came before are still to be heard
    prompt();
    for await (const line of lines) {
      if ((await this.#hear(line.trim())) === "leave") break;
      prompt();
    }
    lines.close();
  }

  /** Stops the answer; leaves where there is none, or where it is being stopped already. */
  #interrupt(lines: Interface): void {
    if (this.#answering === undefined || this.#answering.signal.aborted) lines.close();
    else this.#answering.abort(new Error("interrupted"));
  }

  async #hear(line: string): Promise<"leave" | undefined> {
    const [command, ...words] = line.split(/\s+/);
    switch (command) {
      case "":
        return undefined;
      case "/exit":
        return "leave";
      case "/help":
        return this.#say(help);
      case "/reset":
        this.#messages = [...this.#first];
        return this.#say("the conversation starts anew");
      case "/stats":
        return this.#say(this.#usage ? showUsage(this.#usage) : "no answer so far");
      case "/set":
        return this.#say(this.#set(words));
      default:
        if (command.startsWith("/"))
          return this.#say(`unknown command ${command}; /help lists them`);
        return await this.#answer(line);
    }
  }

  #say(text: string): undefined {
    process.stdout.write(`${text}\n`);
  }

  #set([name, ...value]: readonly string[]): string {
    if (name === undefined) return JSON.stringify(this.#options);
    const found = Object.entries(samplingOptions).find(([, { long }]) => long === `--${name}`);
    if (found === undefined) {
      const names = Object.values(samplingOptions).map(({ long }) => long?.slice(2));
      return `unknown option ${name}; expected one of ${names.join(", ")}`;
    }
    const [field, option] = found;
    try {
      this.#options = { ...this.#options, [field]: option.parseArg?.(value.join(" "), undefined) };
      return `${name} is ${value.join(" ")}`;
    } catch (error) {
      if (error instanceof InvalidArgumentError) return `${name}: ${error.message}`;
      throw error;
    }
  }

  /** Streams the answer to a message. What an interrupted answer said stays part of the conversation. */
  async #answer(content: string): Promise<undefined> {
    const asked: Message[] = [...this.#messages, { role: "user", content }];
    this.#answering = new AbortController();
    const options = { ...this.#options, signal: this.#answering.signal };
    let text = "";
    try {
      for await (const delta of this.#engine.chat(asked, options)) {
        if (delta.kind === "end") this.#usage = delta.usage;
        if (delta.kind !== "text") continue;
        process.stdout.write(delta.text);
        text += delta.text;
      }
    } catch (error) {
      if (error instanceof InputError && process.stdin.isTTY)
        // the conversation has outgrown the context
        return this.#say(`error: ${messageOf(error)} (/reset starts anew)`);
      if (!(error instanceof AbortError)) throw error;
    } finally {
      this.#answering = undefined;
    }
    process.stdout.write("\n");
    if (text !== "") this.#messages = [...asked, { role: "assistant", content: text }];
  }
}
