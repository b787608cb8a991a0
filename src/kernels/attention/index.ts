import { Capture } from "../../ir/graph.ts";
import { attend, placeholder, ropeAppend } from "../../ops/index.ts";
import type { Argument, Call, TableName } from "../../plan/plan.ts";
import type { KvType } from "../../quant/kv-page.ts";
import { attrOf, inputOf, rowsOf, type Kernel, type Use } from "../kernel.ts";
import { callOf, fewRows, rowCall, stepFor, stepOf } from "../program.ts";
import type { AttendSpec } from "./attend-page.ts";
import { recordBytes } from "./attend-span.ts";
import * as programs from "./attend.ts";
import { emitRopeAppend, type RopeAppendSpec } from "./rope-append.ts";

const shape = {
  layer: new Capture("layer"),
  heads: new Capture("heads"),
  kvHeads: new Capture("kvHeads"),
  headDim: new Capture("headDim"),
  kv: new Capture("kv"),
};
const cache = placeholder("cache");
const table = (name: TableName): Argument => ({ kind: "table", table: name });
const pagesOf = (use: Use): Argument => ({ kind: "pages", layer: attrOf(use, "layer") });

const pageShape = (use: Use): RopeAppendSpec => ({
  kv: String(use.attrs.get("kv")) as KvType,
  heads: attrOf(use, "heads"),
  kvHeads: attrOf(use, "kvHeads"),
  headDim: attrOf(use, "headDim"),
});
const markOf = ({ kv, heads, kvHeads, headDim }: RopeAppendSpec): string =>
  `${kv} ${heads}/${kvHeads}×${headDim}`;

export const ropeAppendKernel: Kernel = {
  meaning: ropeAppend(placeholder("qkv"), cache, { ...shape, ropeBase: new Capture("ropeBase") }),
  lower: (use, at) => {
    const spec = pageShape(use);
    at.scratch(spec.headDim * 4);
    const name = `rope-append ${markOf(spec)}`;
    const qkv = inputOf(use, "qkv");
    const given = {
      qkv,
      queries: use.root,
      pages: pagesOf(use),
      slots: table("slots"),
      sinkEnds: table("sinkEnds"),
      windowAngles: table("windowAngles"),
      sinkAngles: table("sinkAngles"),
    };
    const call = rowCall(
      at,
      name,
      { rows: rowsOf(qkv), parts: spec.kvHeads },
      given,
      (body, row, p, heads) => emitRopeAppend(body, spec, p, row, heads),
    );
    return [stepOf(name, rowsOf(qkv), call)];
  },
};

export const attendKernel: Kernel = {
  meaning: attend(placeholder("queries"), cache, { ...shape, scale: new Capture("scale") }),
  lower: (use, at) => {
    const [own, scale] = [pageShape(use), attrOf(use, "scale")];
    const mark = `${markOf(own)} ${scale}`;
    const spec: AttendSpec = { ...own, scale, features: at.features, mark };
    const most = programs.mostSpans(at.maxKeys);
    at.scratch(programs.attendScratchBytes(spec));
    at.takeTurns();
    const rows = rowsOf(use.root);
    const given = [
      inputOf(use, "queries"),
      use.root,
      at.temporary("records", fewRows * spec.kvHeads * most * recordBytes(spec)),
      rows,
      pagesOf(use),
      table("positions"),
      table("sinkEnds"),
      table("windowStarts"),
      table("sinkTables"),
      table("windowTables"),
      table("pageTable"),
    ];
    const callTo = (kind: string, emit: typeof programs.emitAttendSpans): Call => {
      const program = at.program(`${kind} ${mark}`, (module, name) =>
        emit(module, name, spec, most),
      );
      return callOf(at, program, given);
    };
    const many = callTo("attend", programs.emitAttend);
    const few = callTo("attend-spans", programs.emitAttendSpans);
    const merge = callTo("attend-merge", programs.emitAttendMerge);
    return [
      stepFor("attend", rows, { few: [few], many: [many] }),
      stepFor("attend-merge", rows, { few: [merge], many: [] }),
    ];
  },
};
