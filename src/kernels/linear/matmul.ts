import { f32x4, i32, integers, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, FuncRef, Local, Locals, WasmModule } from "../../codegen/wasm/builder.ts";
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
  type Coefficients,
  type LinearSpec,
} from "./block.ts";
import { operandsOf } from "./dot.ts";
import { linearParams } from "./matvec.ts";

/**
 * Many rows: each group of 8 weight rows is unpacked once into a panel in the thread's scratch (a byte a quant, f32 scales),
 * then tiles of 8 rows × a few tokens run over it. A panel is, block after block:
 *
 *   scale A, B · [minimum A, B] · [2 × i32 sub-scales A, B] · [2 × i32 sub-minimums A, B] · dot operands of step 0 A, B … step 7 A, B
 */
/** Bytes of activations that a block of tokens may take, so that they stay in the second-level cache. */
const tokenBlockBytes = 1 << 18;
/** Tokens of a tile: sums of two operands are twice as many, and fit the registers only if those are joined. */
const tokensOf = (spec: LinearSpec): number =>
  4 / spec.digits / (spec.features.revectorize ? 1 : operandsOf(planOf(spec)));

interface PanelPlace {
  readonly minimum: number;
  readonly subScales: number;
  readonly subMinimums: number;
  readonly quants: number;
  readonly block: number;
}

function panelPlace(spec: LinearSpec): PanelPlace {
  const { layout } = spec;
  const minimum = 32;
  const subScales = minimum + (layout.minimum ? 32 : 0);
  const subs = layout.subs === 2 ? 64 : 0;
  const subMinimums = subScales + subs;
  const quants = subMinimums + (layout.minimum ? subs : 0);
  return {
    minimum,
    subScales,
    subMinimums,
    quants,
    block: quants + 256 * operandsOf(planOf(spec)),
  };
}

const operandAt = (spec: LinearSpec, step: number, vector: number, operand: number): number =>
  panelPlace(spec).quants + 32 * (step * operandsOf(planOf(spec)) + operand) + 16 * vector;

/** Scratch a thread needs: a panel. */
export const matmulScratchBytes = (spec: LinearSpec, columns: number): number =>
  (columns / blockColumns) * panelPlace(spec).block;

const tileParams = integers("high low records panel y yEnd yStride added blocks");

/** Y = W X (+ residual) for many tokens. */
export function emitMatmul(module: WasmModule, name: string, spec: LinearSpec): void {
  const unpack = emitUnpack(module, `${name}:unpack`, spec);
  const tokens = tokensOf(spec);
  const wide = emitTile(module, `${name}:tile${tokens}`, spec, tokens);
  const one = emitTile(module, `${name}:tile1`, spec, 1);
  module.func(name, linearParams, "void", (p, body) => {
    const groups = body.local(i32.div_u(i32.add(p.outputs, groupRows - 1), groupRows));
    const { begin, end } = share(body, groups, p.thread, p.threads);
    const blocks = body.local(i32.div_u(p.columns, blockColumns));
    const recordRow = body.local(i32.mul(blocks, recordBytes));
    const tiles = body.local(i32.div_u(i32.div_u(i32.const(tokenBlockBytes), p.columns), tokens));
    body.if(i32.eqz(tiles), () => tiles.set(1));
    const most = body.local(i32.mul(tiles, tokens));
    const added = addedTo(body, p.y, p.residual);
    const run = (tile: FuncRef<"void">, at: Local<"i32">, row: Local<"i32">): void => {
      const high = body.local(i32.add(p.x, i32.mul(row, p.columns)));
      const records = i32.add(i32.add(p.x, p.recordOffset), i32.mul(row, recordRow));
      const start = body.local(i32.mul(row, p.yStride));
      const yEnd = i32.add(i32.add(p.y, start), i32.shl(p.outputs, 2));
      const y = i32.add(p.y, i32.add(start, i32.shl(at, 5)));
      const low = i32.add(high, p.lowOffset);
      body.emit(tile.call(high, low, records, p.scratch, y, yEnd, p.yStride, added, blocks));
    };
    body.for(0, p.rows, most, (first) => {
      const past = body.local(i32.add(first, most));
      body.if(i32.gt_s(past, p.rows), () => past.set(p.rows));
      body.for(begin, end, 1, (at) => {
        body.emit(unpack.call(i32.add(p.weight, i32.mul(at, p.groupBytes)), p.scratch, blocks));
        const row = body.local(first);
        body.while(
          () => i32.le_s(i32.add(row, tokens), past),
          () => {
            run(wide, at, row);
            row.set(i32.add(row, tokens));
          },
        );
        body.for(row, past, 1, (left) => run(one, at, left));
      });
    });
  });
}

const unpackParams = integers("weight panel blocks");

function emitUnpack(module: WasmModule, name: string, spec: LinearSpec): FuncRef<"void"> {
  const place = panelPlace(spec);
  const build = ({ weight, panel, blocks }: Locals<typeof unpackParams>, body: Body): void =>
    forBlocks(body, spec, blocks, [weight], ([supers]) => {
      const both = loadCoefficients(body, spec, weight, supers);
      both.forEach(({ scale, minimum, subScales, subMinimums }, v) => {
        const store = (vector: Local<"v128">, offset: number): void =>
          body.emit(v128.store(panel, vector, offset + 16 * v));
        store(scale, 0);
        if (minimum) store(minimum, place.minimum);
        subScales.forEach((vector, half) => store(vector, place.subScales + 32 * half));
        subMinimums.forEach((vector, half) => store(vector, place.subMinimums + 32 * half));
      });
      for (let pair = 0; pair < 4; pair++)
        loadQuants(body, spec, weight, pair).forEach((vectors, step) =>
          vectors.forEach((operands, v) =>
            operands.forEach((operand, o) =>
              body.emit(v128.store(panel, operand, operandAt(spec, 2 * pair + step, v, o))),
            ),
          ),
        );
      panel.set(i32.add(panel, place.block));
    });
  return module.func(name, unpackParams, "void", build, { export: false });
}

interface Token {
  readonly high: Local<"i32">;
  readonly low: Local<"i32">;
  readonly records: Local<"i32">;
  readonly sums: readonly Local<"v128">[];
  readonly blocks: readonly BlockSum[];
}

/** 8 rows × `tokens` tokens over a panel. */
function emitTile(
  module: WasmModule,
  name: string,
  spec: LinearSpec,
  tokens: number,
): FuncRef<"void"> {
  const build = (p: Locals<typeof tileParams>, body: Body): void => {
    const all = Array.from({ length: tokens }, (_, t): Token => {
      const from = (start: Local<"i32">, bytes: number): Local<"i32"> =>
        t === 0 ? start : body.local(i32.add(start, i32.mul(p.blocks, bytes * t)));
      return {
        high: from(p.high, blockColumns),
        low: from(p.low, blockColumns),
        records: from(p.records, recordBytes),
        sums: [0, 1].map(() => body.local(f32x4.const([0, 0, 0, 0]))),
        blocks: [0, 1].map(() => new BlockSum(body, spec)),
      };
    });
    body.for(0, p.blocks, 1, () => {
      emitTileBlock(body, spec, p.panel, all);
      p.panel.set(i32.add(p.panel, panelPlace(spec).block));
      for (const { high, low, records } of all) {
        high.set(i32.add(high, blockColumns));
        if (spec.digits === 2) low.set(i32.add(low, blockColumns));
        records.set(i32.add(records, recordBytes));
      }
    });
    for (const { sums } of all) {
      storeGroup(body, sums, p.y, p.yEnd, p.added);
      for (const place of [p.y, p.yEnd]) place.set(i32.add(place, p.yStride));
    }
  };
  return module.func(name, tileParams, "void", build, { export: false });
}

function emitTileBlock(
  body: Body,
  spec: LinearSpec,
  panel: Local<"i32">,
  all: readonly Token[],
): void {
  const records = all.map((token) => loadToken(body, spec, token.records));
  all.forEach(({ blocks }, t) => blocks.forEach((block) => block.start(records[t])));
  const coefficients = loadPanelCoefficients(body, spec, panel);
  for (let step = 0; step < 8; step++) {
    if (step === 4)
      all.forEach(({ blocks }, t) =>
        blocks.forEach((b, v) => b.middle(records[t], coefficients[v])),
      );
    const operands = [0, 1].map((v) =>
      Array.from({ length: operandsOf(planOf(spec)) }, (_, o) =>
        body.local(v128.load(panel, operandAt(spec, step, v, o))),
      ),
    );
    for (const { high, low, blocks } of all) {
      const digits = [high, low].slice(0, spec.digits);
      const x = digits.map((digit) => body.local(v128.load32_splat(digit, 4 * step)));
      blocks.forEach((block, v) => block.step(x, operands[v]));
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
