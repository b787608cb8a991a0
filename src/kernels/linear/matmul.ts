import { f32x4, i32, memory, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, FuncRef, Local, WasmModule } from "../../codegen/wasm/builder.ts";
import { recordBytes } from "./activations.ts";
import {
  BlockSum,
  loadCoefficients,
  loadQuants,
  loadSuper,
  loadToken,
  share,
  type Coefficients,
  type LinearSpec,
} from "./block.ts";
import {
  blockBytes,
  blockColumns,
  groupBytes,
  groupRows,
  superColumns,
} from "../../quant/compute-layout.ts";
import { linearParams, type LinearParams } from "./matvec.ts";

/**
 * Many rows: each group of 8 weight rows is unpacked once into a panel in the thread's scratch (a byte a quant, f32 scales),
 * then tiles of 8 rows × a few tokens run over it. A panel is, block after block:
 *
 *   scale A, B · [minimum A, B] · [2 × i32 sub-scales A, B] · [2 × i32 sub-minimums A, B] · quants of step 0 A, B … step 7 A, B
 */
export interface MatmulSpec extends LinearSpec {
  readonly residual: boolean;
}

/** Bytes of activations that a block of tokens may take, so that they stay in the second-level cache. */
const tokenBlockBytes = 1 << 18;
const tokensOf = (spec: LinearSpec): number => (spec.digits === 1 ? 4 : 2);

interface PanelPlace {
  readonly minimum: number;
  readonly subScales: number;
  readonly subMinimums: number;
  readonly quants: number;
  readonly block: number;
}

function panelPlace({ layout }: LinearSpec): PanelPlace {
  const minimum = 32;
  const subScales = minimum + (layout.minimum ? 32 : 0);
  const subs = layout.subs === 2 ? 64 : 0;
  const subMinimums = subScales + subs;
  const quants = subMinimums + (layout.minimum ? subs : 0);
  return { minimum, subScales, subMinimums, quants, block: quants + 256 };
}

/** Scratch a thread needs: results of a partial group of a tile and their residual, then the panel. */
const edgeBytes = 1024;
export const matmulScratchBytes = (spec: LinearSpec): number =>
  edgeBytes + (spec.columns / blockColumns) * panelPlace(spec).block;

const tileParams = {
  high: "i32",
  low: "i32",
  records: "i32",
  panel: "i32",
  y: "i32",
  yStride: "i32",
  residual: "i32",
  residualStride: "i32",
} as const;
type Tile = FuncRef<"void">;
type TileParams = { readonly [Name in keyof typeof tileParams]: Local<"i32"> };

/** Y = W X (+ residual) for many tokens. */
export function emitMatmul(module: WasmModule, name: string, spec: MatmulSpec): void {
  const unpack = emitUnpack(module, `${name}:unpack`, spec);
  const tokens = tokensOf(spec);
  const wide = emitTile(module, `${name}:tile${tokens}`, spec, tokens);
  const one = emitTile(module, `${name}:tile1`, spec, 1);
  const group = groupBytes(spec.layout, spec.columns);
  const most = Math.max(tokens, Math.floor(tokenBlockBytes / spec.columns / tokens) * tokens);
  module.func(name, linearParams, "void", (p, body) => {
    const groups = body.local(i32.div_u(i32.add(p.outputs, groupRows - 1), groupRows));
    const { begin, end } = share(body, groups, p.thread, p.threads);
    const panel = body.local(i32.add(p.scratch, edgeBytes));
    body.for(0, p.rows, most, (first) => {
      const past = body.local(i32.add(first, most));
      body.if(i32.gt_s(past, p.rows), () => past.set(p.rows));
      body.for(begin, end, 1, (at) => {
        body.emit(unpack.call(i32.add(p.weight, i32.mul(at, group)), panel));
        const row = body.local(first);
        body.while(
          () => i32.le_s(i32.add(row, tokens), past),
          () => {
            emitTileCall(body, spec, p, { tile: wide, tokens, panel, at, row });
            row.set(i32.add(row, tokens));
          },
        );
        body.for(row, past, 1, (left) =>
          emitTileCall(body, spec, p, { tile: one, tokens: 1, panel, at, row: left }),
        );
      });
    });
  });
}

interface TileCall {
  readonly tile: Tile;
  readonly tokens: number;
  readonly panel: Local<"i32">;
  readonly at: Local<"i32">;
  readonly row: Local<"i32">;
}

/** One tile; a group with fewer than 8 rows goes through the scratch, so that nothing beyond it is written. */
function emitTileCall(body: Body, spec: MatmulSpec, p: LinearParams, call: TileCall): void {
  const { columns } = spec;
  const recordRow = (columns / blockColumns) * recordBytes;
  const high = body.local(i32.add(p.x, i32.mul(call.row, columns)));
  const records = i32.add(i32.add(p.x, p.recordOffset), i32.mul(call.row, recordRow));
  const offset = body.local(i32.add(i32.mul(call.row, p.yStride), i32.shl(call.at, 5)));
  const y = body.local(i32.add(p.y, offset));
  const residual = body.local(i32.add(p.residual, offset));
  const left = body.local(i32.sub(p.outputs, i32.shl(call.at, 3)));
  const bytes = body.local(i32.shl(left, 2));
  const run = (to: Expr<"i32">, stride: Expr<"i32">, from: Expr<"i32">): void =>
    body.emit(
      call.tile.call(
        high,
        i32.add(high, p.lowOffset),
        records,
        call.panel,
        to,
        stride,
        from,
        stride,
      ),
    );
  body.if(
    i32.ge_s(left, groupRows),
    () => run(y, p.yStride, residual),
    () => {
      const kept = body.local(i32.add(p.scratch, edgeBytes / 2));
      const copyRows = (each: (t: number) => Expr<"void">): void => {
        for (let t = 0; t < call.tokens; t++) body.emit(each(t));
      };
      const there = (base: Local<"i32">, t: number): Expr<"i32"> =>
        i32.add(base, i32.mul(p.yStride, t));
      const here = (base: Local<"i32">, t: number): Expr<"i32"> => i32.add(base, 32 * t);
      if (spec.residual) copyRows((t) => memory.copy(here(kept, t), there(residual, t), bytes));
      run(p.scratch, i32.const(32), kept);
      copyRows((t) => memory.copy(there(y, t), here(p.scratch, t), bytes));
    },
  );
}

const unpackParams = { weight: "i32", panel: "i32" } as const;

function emitUnpack(
  module: WasmModule,
  name: string,
  spec: LinearSpec,
): FuncRef<"void"> {
  const { layout, columns } = spec;
  const { superHeader, block } = blockBytes(layout);
  const place = panelPlace(spec);
  const oneBlock = (
    body: Body,
    weight: Local<"i32">,
    panel: Local<"i32">,
    supers: Local<"v128">[][],
  ): void => {
    const store = (pair: readonly Local<"v128">[], offset: number): void =>
      pair.forEach((vector, v) => body.emit(v128.store(panel, vector, offset + 16 * v)));
    const both = loadCoefficients(body, layout, weight, supers);
    store(
      both.map(({ scale }) => scale),
      0,
    );
    store(
      both.flatMap(({ minimum }) => minimum ?? []),
      place.minimum,
    );
    for (let h = 0; h < both[0].subScales.length; h++)
      store(
        both.map(({ subScales }) => subScales[h]),
        place.subScales + 32 * h,
      );
    for (let h = 0; h < both[0].subMinimums.length; h++)
      store(
        both.map(({ subMinimums }) => subMinimums[h]),
        place.subMinimums + 32 * h,
      );
    for (let pair = 0; pair < 4; pair++)
      loadQuants(body, spec, weight, pair).forEach((vectors, step) =>
        vectors.forEach((quants, v) =>
          body.emit(v128.store(panel, quants, place.quants + 64 * pair + 32 * step + 16 * v)),
        ),
      );
    weight.set(i32.add(weight, block));
    panel.set(i32.add(panel, place.block));
  };
  return module.func(
    name,
    unpackParams,
    "void",
    ({ weight, panel }, body) => {
      if (layout.scales === "block")
        body.for(0, columns / blockColumns, 1, () => oneBlock(body, weight, panel, []));
      else
        body.for(0, columns / superColumns, 1, () => {
          const supers = loadSuper(body, layout, weight).map((v) => [...v]);
          weight.set(i32.add(weight, superHeader));
          body.for(0, superColumns / blockColumns, 1, () => oneBlock(body, weight, panel, supers));
        });
    },
    { export: false },
  );
}

interface Token {
  readonly high: Local<"i32">;
  readonly low: Local<"i32">;
  readonly records: Local<"i32">;
  readonly sums: readonly Local<"v128">[];
  readonly blocks: readonly BlockSum[];
}

/** 8 rows × `tokens` tokens over a panel. */
function emitTile(module: WasmModule, name: string, spec: MatmulSpec, tokens: number): Tile {
  return module.func(name, tileParams, "void", (p, body) => emitTileBody(body, spec, p, tokens), {
    export: false,
  });
}

function emitTileBody(body: Body, spec: MatmulSpec, p: TileParams, tokens: number): void {
  const recordRow = (spec.columns / blockColumns) * recordBytes;
  const all = Array.from({ length: tokens }, (_, t): Token => {
    const from = (start: Local<"i32">, step: number): Local<"i32"> =>
      t === 0 ? start : body.local(i32.add(start, step * t));
    return {
      high: from(p.high, spec.columns),
      low: from(p.low, spec.columns),
      records: from(p.records, recordRow),
      sums: [0, 1].map(() => body.local(f32x4.const([0, 0, 0, 0]))),
      blocks: [0, 1].map(() => new BlockSum(body, spec)),
    };
  });
  body.for(0, spec.columns / blockColumns, 1, () => {
    emitTileBlock(body, spec, p.panel, all);
    p.panel.set(i32.add(p.panel, panelPlace(spec).block));
    for (const { high, low, records } of all) {
      high.set(i32.add(high, blockColumns));
      if (spec.digits === 2) low.set(i32.add(low, blockColumns));
      records.set(i32.add(records, recordBytes));
    }
  });
  all.forEach(({ sums }, t) => {
    sums.forEach((sum, v) => {
      const total = spec.residual ? f32x4.add(v128.load(p.residual, 16 * v), sum) : sum;
      body.emit(v128.store(p.y, total, 16 * v));
    });
    if (t === tokens - 1) return;
    p.y.set(i32.add(p.y, p.yStride));
    if (spec.residual) p.residual.set(i32.add(p.residual, p.residualStride));
  });
}

function emitTileBlock(
  body: Body,
  spec: MatmulSpec,
  panel: Local<"i32">,
  all: readonly Token[],
): void {
  const place = panelPlace(spec);
  const records = all.map((token) => loadToken(body, spec, token.records));
  all.forEach(({ blocks }, t) => blocks.forEach((block) => block.start(records[t])));
  const coefficients = loadPanelCoefficients(body, spec, panel);
  for (let step = 0; step < 8; step++) {
    if (step === 4)
      all.forEach(({ blocks }, t) =>
        blocks.forEach((b, v) => b.middle(records[t], coefficients[v])),
      );
    const quants = [0, 1].map((v) =>
      body.local(v128.load(panel, place.quants + 32 * step + 16 * v)),
    );
    for (const { high, low, blocks } of all) {
      const digits = [high, low].slice(0, spec.digits);
      const x = digits.map((digit) => body.local(v128.load32_splat(digit, 4 * step)));
      blocks.forEach((block, v) => block.step(x, quants[v]));
    }
  }
  all.forEach(({ blocks, sums }, t) =>
    blocks.forEach((block, v) => block.end(sums[v], records[t], coefficients[v])),
  );
}

function loadPanelCoefficients(body: Body, spec: LinearSpec, panel: Local<"i32">): Coefficients[] {
  const { layout } = spec;
  const place = panelPlace(spec);
  const load = (offset: number): Local<"v128"> => body.local(v128.load(panel, offset));
  return [0, 16].map((v) => ({
    scale: load(v),
    minimum: layout.minimum ? load(place.minimum + v) : undefined,
    subScales: layout.subs === 2 ? [0, 32].map((h) => load(place.subScales + h + v)) : [],
    subMinimums:
      layout.subs === 2 && layout.minimum
        ? [0, 32].map((h) => load(place.subMinimums + h + v))
        : [],
  }));
}
