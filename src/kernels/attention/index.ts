import { Capture } from "../../ir/graph.ts";
import { attend, placeholder, ropeAppend } from "../../ops/index.ts";
import type { Argument, TableName } from "../../plan/plan.ts";
import type { KvType } from "../../quant/kv-page.ts";
import { attrOf, inputOf, rowsOf, type Kernel, type Use } from "../kernel.ts";
import { callOf, fewRows, rowCall, stepFor, stepOf } from "../program.ts";
import { recordBytes } from "./attend-span.ts";
import { attendPrograms, attendScratchBytes, mostSpans } from "./attend.ts";
import type { AttentionShape } from "./pages.ts";
import { emitRopeAppend } from "./rope-append.ts";

const shape = {
  layer: new Capture("layer"),
  heads: new Capture("heads"),
  kvHeads: new Capture("kvHeads"),
  headDim: new Capture("headDim"),
  kv: new Capture("kv"),
};
const cache = placeholder("cache");
/** Tables of the step, for parameters of the same names. */
const tables = <Name extends TableName>(...names: Name[]): Readonly<Record<Name, Argument>> => {
  const given = names.map((table) => [table, { kind: "table", table } satisfies Argument] as const);
  return Object.fromEntries(given) as Record<Name, Argument>;
};
const pagesOf = (use: Use): Argument => ({ kind: "pages", layer: attrOf(use, "layer") });

const shapeOf = (use: Use): AttentionShape => ({
  kv: String(use.attrs.get("kv")) as KvType,
  heads: attrOf(use, "heads"),
  kvHeads: attrOf(use, "kvHeads"),
  headDim: attrOf(use, "headDim"),
});
const markOf = ({ kv, heads, kvHeads, headDim }: AttentionShape): string =>
  `${kv} ${heads}/${kvHeads}×${headDim}`;

export const ropeAppendKernel: Kernel = {
  meaning: ropeAppend(placeholder("qkv"), cache, { ...shape, ropeBase: new Capture("ropeBase") }),
  lower: (use, at) => {
    const own = shapeOf(use);
    at.scratch(own.headDim * 4);
    const name = `rope-append ${markOf(own)}`;
    const qkv = inputOf(use, "qkv");
    const read = tables("slots", "sinkEnds", "windowAngles", "sinkAngles");
    const given = { qkv, queries: use.root, pages: pagesOf(use), ...read };
    const rows = rowsOf(qkv);
    const call = rowCall(at, name, { rows, parts: own.kvHeads }, given, emitRopeAppend(own));
    return [stepOf(name, rows, call)];
  },
};

export const attendKernel: Kernel = {
  meaning: attend(placeholder("queries"), cache, { ...shape, scale: new Capture("scale") }),
  lower: (use, at) => {
    const [own, scale] = [shapeOf(use), attrOf(use, "scale")];
    const mark = `${markOf(own)} ${scale}`;
    const { revectorize } = at.features;
    const group = own.heads / own.kvHeads;
    const spec = { ...own, group, scale, revectorize, mostSpans: mostSpans(at.maxKeys), mark };
    at.scratch(attendScratchBytes(spec));
    at.takeTurns();
    const rows = rowsOf(use.root);
    const recordsBytes = fewRows * spec.kvHeads * spec.mostSpans * recordBytes(spec);
    const given = {
      queries: inputOf(use, "queries"),
      y: use.root,
      records: at.temporary("records", recordsBytes),
      rows,
      pages: pagesOf(use),
      ...tables("positions", "sinkEnds", "windowStarts"),
      ...tables("sinkTables", "windowTables", "pageTable"),
    };
    const callTo = (kind: keyof typeof attendPrograms) =>
      callOf(at, `${kind} ${mark}`, given, (func) => attendPrograms[kind]({ ...func, ...spec }));
    const many = callTo("attend");
    const few = callTo("attend-spans");
    const merge = callTo("attend-merge");
    return [
      stepFor("attend", rows, { few: [few], many: [many] }),
      stepFor("attend-merge", rows, { few: [merge], many: [] }),
    ];
  },
};
