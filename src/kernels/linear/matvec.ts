import { f32x4, i32, integers, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, FuncRef, Local, Locals, WasmModule } from "../../codegen/wasm/builder.ts";
import { blockColumns, groupRows } from "../../quant/compute-layout.ts";
import { recordBytes } from "./activations.ts";
import {
  addedTo,
  BlockSum,
  forBlocks,
  loadCoefficients,
  loadQuants,
  loadToken,
  planOf,
  share,
  storeGroup,
  type LinearSpec,
  type Supers,
} from "./block.ts";
import { inputShape } from "./dot.ts";
import { emitWords } from "./words.ts";

/**
 * Few rows: weights stream from memory once a token, unpacked in registers. Several groups of rows are in flight at a
 * time, far apart, because one sequential stream does not fill the memory pipe.
 */
const streams = 4;

export const linearParams = {
  x: "i32",
  lowOffset: "i32",
  recordOffset: "i32",
  weight: "i32",
  groupBytes: "i32",
  y: "i32",
  yStride: "i32",
  residual: "i32",
  outputs: "i32",
  columns: "i32",
  rows: "i32",
  thread: "i32",
  threads: "i32",
  scratch: "i32",
} as const;
export type LinearParams = Locals<typeof linearParams>;
/** `unit`: groups that are not parted among threads; `words`: where x is made words, if they are multiplied. */
const matvecParams = integers(
  "x lowOffset recordOffset weight groupBytes y yStride residual outputs columns rows unit words thread threads scratch",
);

const stripeParams = integers("high low records weight groupBytes y yEnd added blocks groups");

/** y = W x (+ residual) for each of a few tokens. */
export function emitMatvec(module: WasmModule, name: string, spec: LinearSpec): void {
  const many = emitStripe(module, `${name}:streams`, spec, streams);
  const one = emitStripe(module, `${name}:one`, spec, 1);
  const { valueBytes } = inputShape(planOf(spec), spec.digits);
  const widen = emitWords(module, `${name}:words`, spec);
  module.func(name, matvecParams, "void", (p, body) => {
    const groups = body.local(i32.div_u(i32.add(p.outputs, groupRows - 1), groupRows));
    const units = body.local(i32.div_u(i32.sub(i32.add(groups, p.unit), 1), p.unit));
    const { begin, end } = share(body, units, p.thread, p.threads);
    for (const at of [begin, end]) at.set(i32.mul(at, p.unit));
    body.if(i32.gt_s(end, groups), () => end.set(groups));
    const blocks = body.local(i32.div_u(p.columns, blockColumns));
    const recordRow = body.local(i32.mul(blocks, recordBytes));
    const perStream = body.local(i32.div_u(i32.sub(end, begin), streams));
    const rest = body.local(i32.add(begin, i32.mul(perStream, streams)));
    const added = addedTo(body, p.y, p.residual);
    if (widen) {
      const count = i32.mul(p.rows, p.columns);
      body.emit(widen.call(p.x, i32.add(p.x, p.lowOffset), p.words, count));
    }
    const x = widen ? p.words : p.x;
    body.for(0, p.rows, 1, (row) => {
      const high = body.local(i32.add(x, i32.mul(row, i32.mul(p.columns, valueBytes))));
      const low = i32.add(high, p.lowOffset);
      const records = i32.add(i32.add(p.x, p.recordOffset), i32.mul(row, recordRow));
      const y = body.local(i32.add(p.y, i32.mul(row, p.yStride)));
      const yEnd = i32.add(y, i32.shl(p.outputs, 2));
      const run = (stripe: FuncRef<"void">, at: Local<"i32">, count: Expr<"i32">): void => {
        const weight = i32.add(p.weight, i32.mul(at, p.groupBytes));
        const to = i32.add(y, i32.shl(at, 5));
        const call = stripe.call(
          high,
          low,
          records,
          weight,
          p.groupBytes,
          to,
          yEnd,
          added,
          blocks,
          count,
        );
        body.if(i32.gt_s(count, 0), () => body.emit(call));
      };
      run(many, begin, perStream);
      run(one, rest, i32.sub(end, rest));
    });
  });
}

interface Stream {
  readonly weight: Local<"i32">;
  readonly y: Local<"i32">;
  readonly sums: readonly Local<"v128">[];
  readonly blocks: readonly BlockSum[];
}

/** `groups` groups of 8 rows of each of `count` streams, which lie `groups` groups apart. */
function emitStripe(
  module: WasmModule,
  name: string,
  spec: LinearSpec,
  count: number,
): FuncRef<"void"> {
  const build = (p: Locals<typeof stripeParams>, body: Body): void => {
    const apart = body.local(i32.mul(p.groups, p.groupBytes));
    const rowsApart = body.local(i32.shl(p.groups, 5));
    const all: Stream[] = [];
    for (let s = 0; s < count; s++) {
      const before = all.at(-1) ?? p;
      const next = (from: Local<"i32">, step: Local<"i32">): Local<"i32"> =>
        body.local(s === 0 ? from : i32.add(from, step));
      all.push({
        weight: next(before.weight, apart),
        y: next(before.y, rowsApart),
        sums: [body.local("v128"), body.local("v128")],
        blocks: [new BlockSum(body, spec), new BlockSum(body, spec)],
      });
    }
    body.for(0, p.groups, 1, () => emitGroups(body, spec, p, all));
  };
  return module.func(name, stripeParams, "void", build, { export: false });
}

/** One group of each stream. */
function emitGroups(
  body: Body,
  spec: LinearSpec,
  p: Locals<typeof stripeParams>,
  streams: readonly Stream[],
): void {
  const { valueBytes, planes } = inputShape(planOf(spec), spec.digits);
  const [high, low, records] = [p.high, p.low, p.records].map((start) => body.local(start));
  for (const { sums } of streams) for (const sum of sums) sum.set(f32x4.const([0, 0, 0, 0]));
  const weights = streams.map(({ weight }) => weight);
  forBlocks(body, spec, p.blocks, weights, (supers) => {
    emitBlock(body, spec, streams, supers, { high, low, records });
    high.set(i32.add(high, blockColumns * valueBytes));
    if (planes === 2) low.set(i32.add(low, blockColumns));
    records.set(i32.add(records, recordBytes));
  });
  for (const { y, sums } of streams) {
    storeGroup(body, sums, y, p.yEnd, p.added);
    y.set(i32.add(y, 32));
  }
}

function emitBlock(
  body: Body,
  spec: LinearSpec,
  streams: readonly Stream[],
  supers: readonly Supers[],
  at: { high: Local<"i32">; low: Local<"i32">; records: Local<"i32"> },
): void {
  const token = loadToken(body, spec, at.records);
  for (const { blocks } of streams) for (const block of blocks) block.start(token);
  const coefficients = streams.map(({ weight }, s) =>
    loadCoefficients(body, spec, weight, supers[s]),
  );
  const { valueBytes, planes } = inputShape(planOf(spec), spec.digits);
  const digits = [at.high, at.low].slice(0, planes);
  const steps = Array.from({ length: 2 * valueBytes }, (_, step) => step);
  for (let pair = 0; pair < 4; pair++) {
    const x = steps.map((step) =>
      digits.map((digit) => body.local(v128.load32_splat(digit, 8 * valueBytes * pair + 4 * step))),
    );
    streams.forEach(({ weight, blocks }, s) => {
      if (pair === 2) blocks.forEach((block, v) => block.middle(token, coefficients[s][v]));
      loadQuants(body, spec, weight, pair).forEach((vectors, step) =>
        vectors.forEach((quants, v) => blocks[v].step(x[step], quants)),
      );
    });
  }
  streams.forEach(({ sums, blocks }, s) =>
    blocks.forEach((block, v) => block.end(sums[v], token, coefficients[s][v])),
  );
}
