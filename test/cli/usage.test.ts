import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { golden, TemporaryFolder, tramontane } from "./tramontane.ts";

const commands = ["run", "chat", "score", "tokenize", "inspect", "bench", "compile"] as const;

/** Wrong command lines, and what the message must say. */
const wrong: readonly (readonly [line: string, says: string])[] = [
  ["frobnicate", "run, chat, score, tokenize, inspect, bench, compile"],
  ["run", "expected [MODEL] PROMPT, got 0 arguments"],
  ["run a b c", "put PROMPT in quotes"],
  ["tokenize", "expected [MODEL] TEXT"],
  ["run hello --temprature 1", "--temperature"],
  ["run hello --temperature abc", "Expected a number from 0 to 100"],
  ["run hello --temperature=", "Expected a number from 0 to 100"],
  ["run hello --temperature -1", "Expected a number from 0 to 100"],
  ["run hello --top-p NaN", "Expected a number from 0 to 1"],
  ["run hello --threads 0", "Expected a whole number from 1 to 256"],
  ["run hello --threads 1.5", "Expected a whole number from 1 to 256"],
  ["run hello --context 1e99", "Expected a whole number from 1 to"],
  ["run hello --max-tokens Infinity", "Expected a whole number from 1 to"],
  ["run hello --kv f64", "f32, f16, q8"],
  ["run hello --device gpu", "auto, wasm, interpreter"],
  ["run hello --stop=", "at least one character"],
  ["run hello --raw --system x", "cannot be used with"],
  ["run hello --seed", "argument missing"],
  ["score", "--text FILE and --ids FILE.json"],
  ["score --text a --ids b", "--text FILE and --ids FILE.json"],
  ["inspect --device wasm", "unknown option '--device'"],
  ["inspect a b", "Expected 1 argument but got 2"],
  ["bench --threads 1,x", "Expected a whole number from 1 to 256"],
  ["compile", "--dump"],
];

describe("the command line", () => {
  for (const [line, says] of wrong)
    it.concurrent(`refuses "${line}" in one line that says what was expected`, async () => {
      const { code, stdout, stderr } = await tramontane(line.split(" "));
      expect(code).toBe(2);
      expect(stdout).toBe("");
      expect(stderr).toMatch(/^error: [^\n]+\n$/);
      expect(stderr.toLowerCase()).toContain(says.toLowerCase());
    });

  for (const command of commands)
    it.concurrent(`shows an example in the help of ${command}`, async () => {
      const { code, stdout } = await tramontane([command, "--help"]);
      expect(code).toBe(0);
      expect(stdout).toMatch(new RegExp(`Example:\n  \\$ tramontane ${command} `));
    });

  it.concurrent("prints help and fails where no command is given", async () => {
    const { code, stdout, stderr } = await tramontane([]);
    expect([code, stdout]).toEqual([2, ""]);
    for (const command of commands) expect(stderr).toContain(command);
  });

  it.concurrent("tells the version of the package", async () => {
    const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    expect(await tramontane(["--version"])).toEqual({
      code: 0,
      stdout: `${version}\n`,
      stderr: "",
    });
  });
});

describe("bad input", () => {
  const gqa = golden("mistral-tiny/gqa");
  const refuses = (
    title: string,
    args: readonly string[],
    says: readonly string[],
    input = "",
  ): void =>
    it.concurrent(`${title} is one message and exit code 1`, async () => {
      const { code, stdout, stderr } = await tramontane(args, input);
      expect(stderr).toMatch(/^error: [^\n]+\n$/);
      expect(stderr).not.toContain("bug");
      for (const piece of says) expect(stderr).toContain(piece);
      expect([code, stdout]).toEqual([1, ""]);
    });

  refuses("a model that is not there", ["inspect", "/no/such/model"], ["/no/such/model"]);
  refuses("a file that is no model", ["inspect", golden("mistral-tiny/README.md")], ["README.md"]);
  refuses("an empty prompt", ["run", ""], ["empty"]);
  refuses("an empty prompt on stdin", ["run", "-"], ["empty"]);
  refuses("a text for a model without tokenizer", ["tokenize", gqa, "hello"], ["tokenizer.json"]);
  refuses("ids that are not JSON", ["score", gqa, "--ids", "-"], ["not JSON"], "1, 2");
  refuses("ids in arrays", ["score", gqa, "--ids", "-"], ["an array in an array"], "[[1], [2]]");
  refuses("ids that are no numbers", ["score", gqa, "--ids", "-"], ["at index 1"], '[1, "2"]');
  refuses("ids beyond the vocabulary", ["score", gqa, "--ids", "-"], ["0 to 319"], "[1, 320]");
  refuses(
    "threads for the interpreter, which has one",
    ["score", gqa, "--ids", "-", "--device", "interpreter", "--threads", "2"],
    ["threads: expected none", "got 2"],
    "[1, 2]",
  );
  refuses(
    "threads for a bench of the interpreter",
    ["bench", gqa, "--device", "interpreter", "--threads", "1,2"],
    ["threads: expected none", "got 1"],
  );
  refuses("no ids", ["score", gqa, "--ids", "-"], ["empty"], "[]");
  refuses("a text that is not there", ["score", "--text", "/no/such.txt"], ["/no/such.txt"]);
  refuses(
    "more tokens than the context",
    ["score", gqa, "--ids", "-", "--context", "4"],
    ["5 tokens", "--context"],
    "[1, 2, 3, 4, 5]",
  );
  refuses(
    "a place where logits cannot be written",
    ["score", gqa, "--ids", "-", "--logits", "/no/such/folder/logits.f32"],
    ["--logits /no/such/folder/logits.f32"],
    "[1, 2]",
  );
  refuses(
    "a folder in the place of the dump",
    ["compile", gqa, "--dump", "package.json"],
    ["--dump package.json"],
  );
  if (existsSync("/proc"))
    refuses(
      "a dump where no folder can be made",
      ["compile", gqa, "--dump", "/proc/no/folder"],
      ["--dump /proc/no/folder", "/proc/no"],
    );
  refuses(
    "a cache beyond all memory",
    ["run", "hello", "--context", "2000000000"],
    ["lower the context"],
  );

  it.concurrent("leaves no logits behind when scoring fails", async () => {
    using folder = new TemporaryFolder();
    const out = folder.file("logits.f32");
    const { code } = await tramontane(["score", gqa, "--ids", "-", "--logits", out], "[1, 320]");
    const { readdirSync } = await import("node:fs");
    expect([code, readdirSync(folder.path)]).toEqual([1, []]);
  });

  it.concurrent("shows the stack with --debug", async () => {
    const { code, stderr } = await tramontane(["inspect", "/no/such/model", "--debug"]);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/\n\s+at /)]);
  });
});
