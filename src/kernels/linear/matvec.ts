import { f32x4, i32, memory, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, FuncRef, Local, WasmModule } from "../../codegen/wasm/builder.ts";
import { recordBytes } from "./activations.ts";
import {
  BlockSum,
  loadCoefficients,
  loadQuants,
  loadSuper,
  loadToken,
  share,
  type LinearSpec,
} from "./block.ts";
import {
  blockBytes,
  blockColumns,
  groupBytes,
  groupRows,
  superColumns,
} from "../../quant/compute-layout.ts";

/**
 * Few rows: weights stream from memory once a token, unpacked in registers. Several groups of rows are in flight at a
 * time, far apart, because one sequential stream does not fill the memory pipe.
 */
export interface MatvecSpec extends LinearSpec {
  readonly residual: boolean;
  readonly streams: number;
}

export const linearParams = {
  x: "i32",
  lowOffset: "i32",
  recordOffset: "i32",
  weight: "i32",
  y: "i32",
  yStride: "i32",
  residual: "i32",
  outputs: "i32",
  rows: "i32",
  thread: "i32",
  threads: "i32",
  scratch: "i32",
} as const;
export type LinearParams = { readonly [Name in keyof typeof linearParams]: Local<"i32"> };

const stripeParams = {
  high: "i32",
  low: "i32",
  records: "i32",
  weight: "i32",
  y: "i32",
  residual: "i32",
  groups: "i32",
} as const;
type Stripe = FuncRef<"void">;

/** y = W x (+ residual) for each of a few tokens. */
export function emitMatvec(module: WasmModule, name: string, spec: MatvecSpec): void {
  const many = emitStripe(module, `${name}:streams`, spec, spec.streams);
  const one = spec.streams === 1 ? many : emitStripe(module, `${name}:one`, spec, 1);
  module.func(name, linearParams, "void", (p, body) => {
    body.for(0, p.rows, 1, (row) => emitToken(body, spec, p, row, many, one));
  });
}

function emitToken(
  body: Body,
  spec: MatvecSpec,
  p: LinearParams,
  row: Local<"i32">,
  many: Stripe,
  one: Stripe,
): void {
  const { columns, streams } = spec;
  const group = groupBytes(spec.layout, columns);
  const high = body.local(i32.add(p.x, i32.mul(row, columns)));
  const low = body.local(i32.add(high, p.lowOffset));
  const recordRow = (columns / blockColumns) * recordBytes;
  const records = body.local(i32.add(i32.add(p.x, p.recordOffset), i32.mul(row, recordRow)));
  const y = body.local(i32.add(p.y, i32.mul(row, p.yStride)));
  const residual = body.local(i32.add(p.residual, i32.mul(row, p.yStride)));
  const groups = body.local(i32.div_u(i32.add(p.outputs, groupRows - 1), groupRows));
  const { begin, end } = share(body, groups, p.thread, p.threads);
  const whole = body.local(i32.div_u(p.outputs, groupRows));
  const last = body.local(i32.lt_s(whole, end));
  body.if(last, () => end.set(whole));
  const at = body.local(begin);
  const run = (stripe: Stripe, perStream: Local<"i32">): void => {
    body.emit(
      stripe.call(
        high,
        low,
        records,
        i32.add(p.weight, i32.mul(at, group)),
        i32.add(y, i32.shl(at, 5)),
        i32.add(residual, i32.shl(at, 5)),
        perStream,
      ),
    );
  };
  body.if(i32.gt_s(end, begin), () => {
    const perStream = body.local(i32.div_u(i32.sub(end, begin), streams));
    body.if(perStream, () => run(many, perStream));
    at.set(i32.add(begin, i32.mul(perStream, streams)));
    const rest = body.local(i32.sub(end, at));
    body.if(rest, () => run(one, rest));
  });
  body.if(last, () => {
    const group8 = i32.mul(whole, group);
    const offset = body.local(i32.shl(whole, 5));
    const bytes = body.local(i32.shl(i32.sub(p.outputs, i32.shl(whole, 3)), 2));
    if (spec.residual)
      body.emit(memory.copy(i32.add(p.scratch, 32), i32.add(residual, offset), bytes));
    body.emit(
      one.call(
        high,
        low,
        records,
        i32.add(p.weight, group8),
        p.scratch,
        i32.add(p.scratch, 32),
        i32.const(1),
      ),
    );
    body.emit(memory.copy(i32.add(y, offset), p.scratch, bytes));
  });
}

interface Stream {
  readonly weight: Local<"i32">;
  readonly y: Local<"i32">;
  readonly residual: Local<"i32">;
  readonly sums: readonly Local<"v128">[];
  readonly blocks: readonly BlockSum[];
}

/** `groups` groups of 8 rows of each of `streams` streams, which lie `groups` groups apart. */
function emitStripe(module: WasmModule, name: string, spec: MatvecSpec, streams: number): Stripe {
  const group = groupBytes(spec.layout, spec.columns);
  const build = (p: { [Name in keyof typeof stripeParams]: Local<"i32"> }, body: Body): void => {
    const apart = body.local(i32.mul(p.groups, group));
    const rowsApart = body.local(i32.shl(p.groups, 5));
    const all: Stream[] = [];
    for (let s = 0; s < streams; s++) {
      const before = all.at(-1);
      all.push({
        weight: before ? body.local(i32.add(before.weight, apart)) : p.weight,
        y: before ? body.local(i32.add(before.y, rowsApart)) : p.y,
        residual: before ? body.local(i32.add(before.residual, rowsApart)) : p.residual,
        sums: [body.local("v128"), body.local("v128")],
        blocks: [new BlockSum(body, spec), new BlockSum(body, spec)],
      });
    }
    body.for(0, p.groups, 1, () => emitGroups(body, spec, p, all));
  };
  return module.func(name, stripeParams, "void", build, { export: false });
}

function emitGroups(
  body: Body,
  spec: MatvecSpec,
  p: { [Name in keyof typeof stripeParams]: Local<"i32"> },
  streams: readonly Stream[],
): void {
  const { layout, columns } = spec;
  const { superHeader, block: blockSize } = blockBytes(layout);
  const [high, low, records] = [p.high, p.low, p.records].map((start) => body.local(start));
  for (const { sums } of streams) for (const sum of sums) sum.set(f32x4.const([0, 0, 0, 0]));
  const oneBlock = (supers: readonly (readonly Local<"v128">[][])[]): void => {
    emitBlock(body, spec, streams, supers, { high, low, records });
    for (const { weight } of streams) weight.set(i32.add(weight, blockSize));
    high.set(i32.add(high, blockColumns));
    if (spec.digits === 2) low.set(i32.add(low, blockColumns));
    records.set(i32.add(records, recordBytes));
  };
  if (layout.scales === "block") body.for(0, columns / blockColumns, 1, () => oneBlock([]));
  else
    body.for(0, columns / superColumns, 1, () => {
      const supers = streams.map(({ weight }) =>
        loadSuper(body, layout, weight).map((v) => [...v]),
      );
      for (const { weight } of streams) weight.set(i32.add(weight, superHeader));
      body.for(0, superColumns / blockColumns, 1, () => oneBlock(supers));
    });
  for (const { y, residual, sums } of streams) {
    sums.forEach((sum, v) => {
      const total = spec.residual ? f32x4.add(v128.load(residual, 16 * v), sum) : sum;
      body.emit(v128.store(y, total, 16 * v));
    });
    y.set(i32.add(y, 32));
    if (spec.residual) residual.set(i32.add(residual, 32));
  }
}

function emitBlock(
  body: Body,
  spec: MatvecSpec,
  streams: readonly Stream[],
  supers: readonly (readonly Local<"v128">[][])[],
  at: { high: Local<"i32">; low: Local<"i32">; records: Local<"i32"> },
): void {
  const token = loadToken(body, spec, at.records);
  for (const { blocks } of streams) for (const block of blocks) block.start(token);
  const coefficients = streams.map(({ weight }, s) =>
    loadCoefficients(
      body,
      spec.layout,
      weight,
      (supers[s] ?? []).map((v) => [...v]),
    ),
  );
  const digits = [at.high, at.low].slice(0, spec.digits);
  for (let pair = 0; pair < 4; pair++) {
    const x = [0, 1].map((step) =>
      digits.map((digit) => body.local(v128.load32_splat(digit, 8 * pair + 4 * step))),
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
