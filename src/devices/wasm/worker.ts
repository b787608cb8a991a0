import { memoryName } from "../../codegen/wasm/module.ts";
import { Mailbox, type Command } from "./mailbox.ts";
import { Runner } from "./runner.ts";
import { thisThread } from "./thread.ts";
import { packShare } from "./weights.ts";

/** One thread of the team: it sleeps until the mailbox has a command and does its share of it. */
const { data, done } = await thisThread();
const mailbox = new Mailbox(data.mailbox);
const env = Object.fromEntries(data.memories.map((memory, index) => [memoryName(index), memory]));
const { exports } = new WebAssembly.Instance(data.module, { env });
const runner = new Runner(exports, data);

/** False when there is nothing more to come. */
function handle(command: Command): boolean {
  switch (command.kind) {
    case "run":
      runner.run(command);
      return true;
    case "pack":
      packShare(command, data, exports);
      return true;
    case "stop":
      return false;
    default:
      return command satisfies never;
  }
}

while (handle(mailbox.take())) if (mailbox.finish() === data.threads) done();
