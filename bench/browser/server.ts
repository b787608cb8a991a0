import { once } from "node:events";
import { createReadStream, existsSync, readFileSync, statSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { stripTypeScriptTypes } from "node:module";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";

/** Shared memory is for pages that are cross-origin isolated only. */
const isolation = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
  "cache-control": "no-store",
};
const script = "text/javascript";
const types: Readonly<Record<string, string>> = {
  ".ts": script,
  ".js": script,
  ".mjs": script,
  ".wasm": "application/wasm",
  ".gguf": "application/octet-stream",
};
/** Packages by their names in imports; the map is all that the page needs instead of a bundler. */
const imports = {
  "@huggingface/jinja": "/node_modules/@huggingface/jinja/dist/index.js",
  "@huggingface/tokenizers": "/node_modules/@huggingface/tokenizers/dist/tokenizers.mjs",
};
const page = `<!doctype html>
<meta charset="utf-8">
<title>bench</title>
<link rel="icon" href="data:,">
<script type="importmap">${JSON.stringify({ imports })}</script>
<script type="module" src="/bench/browser/page.ts"></script>
`;

/** Serves a repository to a browser on this machine: sources without their types, models in ranges. */
export async function serve(root: string): Promise<AsyncDisposable & { readonly origin: string }> {
  const server = createServer((request, response) => answer(root, request, response));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}

function answer(root: string, { url = "/", headers }: IncomingMessage, response: ServerResponse) {
  const path = normalize(decodeURIComponent(new URL(url, "http://localhost").pathname));
  const type = types[extname(path)];
  const send = (content: string, contentType: string): unknown =>
    response.writeHead(200, { ...isolation, "content-type": contentType }).end(content);
  if (path === "/") return send(page, "text/html");
  const file = join(root, path);
  if (type === undefined || !existsSync(file)) return response.writeHead(404, isolation).end();
  if (extname(path) === ".ts") return send(stripTypeScriptTypes(readFileSync(file, "utf8")), type);
  const { size } = statSync(file);
  const range = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? "");
  const [start, end] = range
    ? [Number(range[1]), Math.min(Number(range[2]), size - 1)]
    : [0, size - 1];
  response.writeHead(range ? 206 : 200, {
    ...isolation,
    "content-type": type,
    "content-length": end - start + 1,
    ...(range && { "content-range": `bytes ${start}-${end}/${size}` }),
  });
  return createReadStream(file, { start, end }).pipe(response);
}
