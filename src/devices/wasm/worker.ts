import { parentPort, workerData } from "node:worker_threads";
import { InternalError, messageOf } from "../../base/errors.ts";
import { packShare } from "./pack.ts";
import { mailbox, readCommand, type Command, type Reply, type WorkerData } from "./protocol.ts";
import { Runner } from "./runner.ts";

/** One thread of the team: it sleeps until the mailbox has a command and does its share of it. */
const data = workerData as WorkerData;
const { module, memory, plan, map, thread, threads, sizeNames, mailbox: words } = data;
const port = parentPort;
if (port === null) throw new InternalError("worker", "this file runs as a worker only");

const { exports } = new WebAssembly.Instance(module, { env: { memory } });
const runner = new Runner(exports, plan, map, { thread, threads });
const reply = (message: Reply): void => port.postMessage(message);

function handle(command: Command): void {
  switch (command.kind) {
    case "run": {
      const { copies, binding, functions } = command;
      if (copies) {
        const pairs = new Int32Array(memory.buffer, copies.at, 2 * copies.count);
        runner.copyPages(pairs, binding, copies.layers, copies.pageBytes, threads);
      }
      runner.run(
        functions.map((at) => plan.functions[at].name),
        binding,
      );
      return;
    }
    case "pack":
      return packShare(memory, map.weights, plan.weights[command.job.weight], command.job, {
        thread,
        threads,
      });
    case "stop":
      return;
    default:
      return command satisfies never;
  }
}

reply({ kind: "ready" });
for (let turn = 0; ;) {
  Atomics.wait(words, mailbox.turn, turn);
  turn = Atomics.load(words, mailbox.turn);
  const command = readCommand(words, sizeNames);
  if (command.kind === "stop") break;
  try {
    handle(command);
    if (Atomics.add(words, mailbox.finished, 1) === threads - 1) reply({ kind: "done" });
  } catch (error) {
    const stack = error instanceof Error ? (error.stack ?? "") : "";
    reply({ kind: "failed", message: messageOf(error), stack });
    break;
  }
}
