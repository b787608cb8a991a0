import { memoryName } from "../../codegen/wasm/module.ts";
import { createRunner } from "./runner.ts";
import { Mailbox, thisThread } from "./team.ts";
import { packShare } from "./weights.ts";

/** One thread of the team: it sleeps until the mailbox has a command and does its share of it. */
const { data, done } = await thisThread();
const mailbox = new Mailbox(data.mailbox);
const env = Object.fromEntries(data.memories.map((memory, index) => [memoryName(index), memory]));
const { exports: programs } = new WebAssembly.Instance(data.module, { env });
const place = { ...data, programs };
const run = createRunner(place);

for (let command = mailbox.take(); command.kind !== "stop"; command = mailbox.take()) {
  if (command.kind === "run") run(command);
  else packShare(command, place);
  if (mailbox.finish() === data.threads) done();
}
