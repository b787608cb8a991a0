import { once } from "node:events";
import { openAsBlob, readFileSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Worker as NodeWorker } from "node:worker_threads";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { InputError } from "../../src/base/errors.ts";
import type { LoadOptions } from "../../src/load-options.ts";
import * as Api from "../../src/load.ts";
import { formatBytes } from "../../src/quant/formats.ts";
import { openCheckpoint, type CheckpointTensor } from "../../src/weights/checkpoint.ts";
import { columnsOf, rowsOf } from "../../src/weights/tensors.ts";
import { goldenPath, refusal } from "./files.ts";

interface Range {
  readonly begin: number;
  readonly end: number;
  readonly content: Buffer;
}
const head = ({ begin, end, content }: Range) => ({
  "content-range": `bytes ${begin}-${end - 1}/${content.length}`,
});
const part = ({ begin, end, content }: Range): Buffer => content.subarray(begin, end);

/** How a server answers to a range of `/WAY/FILE`. */
const ways: Readonly<Record<string, (response: ServerResponse, range: Range) => void>> = {
  ranges: (response, range) => response.writeHead(206, head(range)).end(part(range)),
  whole: (response, { content }) => response.end(content),
  hidden: (response, range) => response.writeHead(206).end(part(range)),
  more: (response, range) =>
    response.writeHead(206, head(range)).end(Buffer.alloc(2 * range.content.length)),
  cut: (response, range) => {
    const end = Math.min(range.end, range.content.length - 100);
    if (range.begin >= end) response.writeHead(416).end();
    else response.writeHead(206, head(range)).end(part({ ...range, end }));
  },
  broken: (response, range) => {
    const { length } = part(range);
    response.writeHead(206, { ...head(range), "content-length": length });
    if (length === 1) response.end(part(range));
    else response.write(part(range).subarray(1), () => response.destroy());
  },
};

const server = createServer(({ url = "", headers }, response) => {
  const [, way = "", file = ""] = /^\/(\w+)\/([^?]*)/.exec(url) ?? [];
  const content = contentOf(decodeURIComponent(file));
  if (content === undefined) return response.writeHead(404).end("nothing here");
  const [begin = 0, last = Infinity] = headers.range?.match(/\d+/g)?.map(Number) ?? [];
  return ways[way](response, { begin, end: Math.min(last + 1, content.length), content });
}).listen(0, "127.0.0.1");
await once(server, "listening");
afterAll(() => server.close());
const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

function contentOf(file: string): Buffer | undefined {
  try {
    return readFileSync(goldenPath("mistral-tiny", file));
  } catch {
    return undefined;
  }
}

const urlOf = (way: string, file: string): string => `${origin}/${way}/${file}`;

/** Checks that a checkpoint has the config and the tensors of the one on disk. */
async function expectSame(source: string | Blob, file: string): Promise<void> {
  await using checkpoint = await openCheckpoint(source);
  await using expected = await openCheckpoint(goldenPath("mistral-tiny", file));
  expect(checkpoint.config.json).toEqual(expected.config.json);
  expect(checkpoint.tensors.length).toBe(expected.tensors.length);
  for (const [at, tensor] of expected.tensors.entries())
    expect(await bytesOf(checkpoint.tensors[at])).toEqual(await bytesOf(tensor));
}

async function bytesOf({ format, shape, read }: CheckpointTensor): Promise<Uint8Array> {
  const rows = rowsOf(shape);
  const bytes = new Uint8Array(rows * formatBytes(format, columnsOf(shape)));
  await read(0, rows, bytes);
  return bytes;
}

describe("a checkpoint is read", () => {
  const rows = [
    ["ranges", "gguf/model-q8_0.gguf"],
    ["ranges", "gguf/model-q8_0.gguf?download=true"],
    ["ranges", "gguf/split%2Dq8_0-00002-of-00003.gguf"],
    ["whole", "gguf/model-q8_0.gguf"],
  ] as const;
  for (const [way, file] of rows)
    it(`from a server that gives ${way}: ${file}`, () =>
      expectSame(urlOf(way, file), decodeURIComponent(file.replace("?download=true", ""))));

  it("from a file that a page was given, and from a blob without a name", async () => {
    const file = "gguf/model-q8_0.gguf";
    const blob = await openAsBlob(goldenPath("mistral-tiny", file));
    await expectSame(new File([blob], "model.gguf"), file);
    await expectSame(blob, file);
  });
});

describe("a server is refused", () => {
  const rows = [
    ["ranges", "gqa/model.safetensors", "expected a .gguf file"],
    ["ranges", "oops.gguf", "the server answers 404 Not Found; check the URL"],
    ["hidden", "gguf/model-q8_0.gguf", "must tell the size in Content-Range"],
    ["more", "gguf/model-q8_0.gguf", "the transfer broke off: more than the"],
    ["broken", "gguf/model-q8_0.gguf", "the transfer broke off"],
    ["cut", "gguf/model-q8_0.gguf", "the file ends at byte"],
  ] as const;
  for (const [way, file, message] of rows)
    it(`that gives ${way}: ${message}`, async () => {
      const error = await refusal(urlOf(way, file));
      expect(error).toBeInstanceOf(InputError);
      expect(error.message).toContain(`${urlOf(way, file)}: `);
      expect(error.message).toContain(message);
    });

  it("that is not there", async () => {
    const { message } = await refusal("http://127.0.0.1:9/model.gguf");
    expect(message).toContain("it cannot be fetched");
  });
});

/** The last row's logits of a short prompt. */
async function logitsOf(
  api: typeof Api,
  path: string,
  options: LoadOptions,
): Promise<Float32Array> {
  await using prepared = await api.prepare(path, options);
  const { module, weights, engine } = prepared;
  await using model = await api.compileModule(module, weights, engine);
  using cache = await model.create_paged_kv_cache({ max_batch_size: 1, max_total_seq_len: 64 });
  cache.add(0);
  return await model.forward(cache, [{ id: 0, tokens: [1, 2, 3] }], "last");
}

/** What a page has of workers, made of Node's; what runs in one finds no Node either. */
class WebWorker extends EventTarget {
  readonly #worker: NodeWorker;

  constructor(url: URL) {
    super();
    const code = `const { parentPort } = require("node:worker_threads");
      process.getBuiltinModule = undefined;
      globalThis.addEventListener = (_, heard) => parentPort.once("message", (data) => heard({ data }));
      globalThis.postMessage = (message) => parentPort.postMessage(message);
      import(${JSON.stringify(url.href)});`;
    this.#worker = new NodeWorker(code, { eval: true });
    this.#worker.on("message", () => this.dispatchEvent(new Event("message")));
  }

  postMessage(data: unknown): void {
    this.#worker.postMessage(data);
  }

  terminate(): void {
    void this.#worker.terminate();
  }
}

describe("where there is no Node", () => {
  const file = "gguf/model-q8_0.gguf";
  const browser = async (): Promise<typeof Api> => {
    vi.resetModules();
    vi.stubGlobal("process", Object.create(process, { getBuiltinModule: { value: undefined } }));
    return await import("../../src/load.ts");
  };
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.resetModules();
  });

  it("a model is loaded from a URL, and computes the same", async () => {
    const options = { device: "interpreter", context: 64 } as const;
    const expected = await logitsOf(Api, goldenPath("mistral-tiny", file), options);
    expect(await logitsOf(await browser(), urlOf("ranges", file), options)).toEqual(expected);
  });

  it("Web Workers compute the same bits", async () => {
    const options = { device: "wasm", threads: 2, context: 64 } as const;
    const expected = await logitsOf(Api, goldenPath("mistral-tiny", file), options);
    const api = await browser();
    vi.stubGlobal("Worker", WebWorker);
    expect(await logitsOf(api, urlOf("ranges", file), options)).toEqual(expected);
  });

  it("a page that is not cross-origin isolated is told the headers it needs", async () => {
    const api = await browser();
    vi.stubGlobal("SharedArrayBuffer", undefined);
    await expect(api.load(urlOf("ranges", file))).rejects.toThrow(
      /Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp/,
    );
  });
});
