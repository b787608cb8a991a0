import { Capture } from "../../ir/graph.ts";
import { attend, placeholder, ropeAppend } from "../../ops/index.ts";
import type { Argument, TableName } from "../../plan/plan.ts";
import { attrOf, inputOf, rowsArg, rowsOf, unlimited, type Kernel, type Use } from "../kernel.ts";
import {
  attendScratchBytes,
  emitAttend,
  emitAttendMerge,
  emitAttendSpans,
  mostSpans,
} from "./attend.ts";
import type { AttendSpec } from "./attend-page.ts";
import { recordBytes } from "./attend-span.ts";
import { emitRopeAppend, type RopeAppendSpec } from "./rope-append.ts";
import type { KvType } from "../../quant/kv-page.ts";

const capture = (name: string): Capture => new Capture(name);
const shape = {
  layer: capture("layer"),
  heads: capture("heads"),
  kvHeads: capture("kvHeads"),
  headDim: capture("headDim"),
};
const kv = capture("kv");
const cache = placeholder("cache");
const table = (name: TableName): Argument => ({ kind: "table", table: name });

const pageShape = (use: Use): RopeAppendSpec => ({
  kv: String(use.attrs.get("kv")) as KvType,
  heads: attrOf(use, "heads"),
  kvHeads: attrOf(use, "kvHeads"),
  headDim: attrOf(use, "headDim"),
});

const markOf = ({ kv, heads, kvHeads, headDim }: RopeAppendSpec): string =>
  `${kv} ${heads}/${kvHeads}×${headDim}`;

export const ropeAppendKernel: Kernel = {
  name: "rope-append",
  meaning: ropeAppend(placeholder("qkv"), cache, { ...shape, ropeBase: capture("ropeBase"), kv }),
  lower: (use, at) => {
    const spec = pageShape(use);
    at.scratch(spec.headDim * 4);
    const program = at.program(`rope-append ${markOf(spec)}`, (module, name) =>
      emitRopeAppend(module, name, spec),
    );
    const rows = rowsOf(inputOf(use, "qkv"));
    const args: Argument[] = [
      at.address(inputOf(use, "qkv")),
      at.address(use.root),
      rowsArg(rows),
      { kind: "pages", layer: attrOf(use, "layer") },
      table("slots"),
      table("sinkEnds"),
      table("windowAngles"),
      table("sinkAngles"),
    ];
    return [
      { name: program, rows, variants: [{ maxRows: unlimited, calls: [{ program, args }] }] },
    ];
  },
};

/** Up to this many rows a step's attention is shared out by spans of keys as well. */
const fewRows = 3;

export const attendKernel: Kernel = {
  name: "attend",
  meaning: attend(placeholder("queries"), cache, { ...shape, scale: capture("scale"), kv }),
  lower: (use, at) => {
    const spec: AttendSpec = { ...pageShape(use), scale: attrOf(use, "scale") };
    const most = mostSpans(at.maxKeys);
    const mark = `${markOf(spec)} ${spec.scale}`;
    at.scratch(attendScratchBytes(spec));
    const spans = at.program(`attend-spans ${mark}`, (module, name) =>
      emitAttendSpans(module, name, spec, most),
    );
    const merge = at.program(`attend-merge ${mark}`, (module, name) =>
      emitAttendMerge(module, name, spec, most),
    );
    const whole = at.program(`attend ${mark}`, (module, name) => emitAttend(module, name, spec));
    const rows = rowsOf(use.root);
    const records = at.temporary("records", fewRows * spec.kvHeads * most * recordBytes(spec));
    const args: Argument[] = [
      at.address(inputOf(use, "queries")),
      at.address(use.root),
      records,
      rowsArg(rows),
      { kind: "pages", layer: attrOf(use, "layer") },
      table("positions"),
      table("sinkEnds"),
      table("windowStarts"),
      table("sinkTables"),
      table("windowTables"),
      table("pageTable"),
    ];
    return [
      {
        name: "attend",
        rows,
        variants: [
          { maxRows: fewRows, calls: [{ program: spans, args }] },
          { maxRows: unlimited, calls: [{ program: whole, args }] },
        ],
      },
      {
        name: "attend-merge",
        rows,
        variants: [
          { maxRows: fewRows, calls: [{ program: merge, args }] },
          { maxRows: unlimited, calls: [] },
        ],
      },
    ];
  },
};
