import { Capture } from "../../ir/graph.ts";
import { attend, placeholder, ropeAppend } from "../../ops/index.ts";
import type { Argument, Call, TableName } from "../../plan/plan.ts";
import type { KvType } from "../../quant/kv-page.ts";
import { attrOf, inputOf, rowsOf, type Kernel, type StepDraft, type Use } from "../kernel.ts";
import { callOf, rowCall, stepOf, unlimited } from "../program.ts";
import type { AttendSpec } from "./attend-page.ts";
import { recordBytes } from "./attend-span.ts";
import { attendScratchBytes, emitAttend, emitAttendMerge, emitAttendSpans } from "./attend.ts";
import { mostSpans } from "./attend.ts";
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

/** Up to this many rows a step's attention is shared out by spans of keys as well. */
const fewRows = 3;

export const attendKernel: Kernel = {
  meaning: attend(placeholder("queries"), cache, { ...shape, scale: new Capture("scale") }),
  lower: (use, at) => {
    const { features } = at;
    const spec: AttendSpec = {
      ...pageShape(use),
      scale: attrOf(use, "scale"),
      features,
    };
    at.takeTurns();
    const most = mostSpans(at.maxKeys);
    at.scratch(attendScratchBytes(spec));
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
    const calls = (kind: string, emit: typeof emitAttendSpans): Call[] => {
      const program = `${kind} ${markOf(spec)} ${spec.scale}`;
      at.program(program, (module, name) => emit(module, name, spec, most));
      return [callOf(at, program, given)];
    };
    const step = (name: string, few: Call[], many: Call[]): StepDraft => ({
      name,
      rows,
      variants: [
        { maxRows: fewRows, calls: few },
        { maxRows: unlimited, calls: many },
      ],
    });
    return [
      step("attend", calls("attend-spans", emitAttendSpans), calls("attend", emitAttend)),
      step("attend-merge", calls("attend-merge", emitAttendMerge), []),
    ];
  },
};
