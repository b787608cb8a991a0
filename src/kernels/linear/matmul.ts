import { f32x4, i32, integers, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, Expr, FuncRef, Local, Locals, WasmModule } from "../../codegen/wasm/builder.ts";
import { blockColumns, groupRows } from "../../quant/compute-layout.ts";
import { recordBytes } from "./activations.ts";
import { addedTo, BlockSum, loadToken, share, storeGroup, type LinearSpec } from "./block.ts";
import { linearParams } from "./matvec.ts";
import { emitUnpack, operandAt, panelBlockBytes, panelCoefficients } from "./panel.ts";
import { shapeOf, type TileShape } from "./panel.ts";
import { emitWords } from "./words.ts";

/**
 * Bytes of activations that a block of tokens may take: they stay in a cache of 2 MiB a core, and in one of 512 KiB it costs more to
 * unpack weights for fewer tokens than to read them from behind it (docs/log.md).
 */
const tokenBlockBytes = 1 << 20;
/** Tokens of a block, in tiles. */
const tokensFit = ({ tokens, valueBytes }: TileShape, columns: Expr<"i32">): Expr<"i32"> =>
  i32.mul(i32.div_u(i32.const(tokenBlockBytes / valueBytes / tokens), columns), tokens);

/** Scratch that a thread needs: a panel, and words of a block of tokens. */
export function matmulScratchBytes(spec: LinearSpec, columns: number): number {
  const shape = shapeOf(spec);
  const panel = (columns / blockColumns) * panelBlockBytes(spec);
  const words = Math.max(tokenBlockBytes, 2 * shape.tokens * columns);
  return panel + (shape.valueBytes === 2 ? words : 0);
}

const tileParams = integers("high low records panel y yEnd yStride added blocks");

/**
 * Y = W X (+ residual) for many tokens: a few groups of 8 weight rows are unpacked once into a panel in the thread's scratch (a byte or
 * a word a quant, f32 scales), then tiles of so many rows × a few tokens run over it. Where quants are words, x is made words
 * too, in the scratch behind the panel.
 */
export function emitMatmul(module: WasmModule, name: string, spec: LinearSpec): void {
  const shape = shapeOf(spec);
  const { groups: width, tokens, valueBytes } = shape;
  const unpack = emitUnpack(module, `${name}:unpack`, spec);
  const widen = emitWords(module, `${name}:words`, spec);
  const wide = emitTile(module, `${name}:tile${tokens}`, spec, shape);
  const one = emitTile(module, `${name}:tile1`, spec, { ...shape, tokens: 1 });
  module.func(name, linearParams, "void", (p, body) => {
    const groups = body.local(i32.div_u(i32.add(p.outputs, groupRows - 1), groupRows));
    const panels = i32.div_u(i32.add(groups, width - 1), width);
    const { begin, end } = share(body, panels, p.thread, p.threads);
    const blocks = body.local(i32.div_u(p.columns, blockColumns));
    const recordRow = body.local(i32.mul(blocks, recordBytes));
    const most = body.local(tokensFit(shape, p.columns));
    body.if(i32.eqz(most), () => most.set(tokens));
    const added = addedTo(body, p.y, p.residual);
    const words = body.local(i32.add(p.scratch, i32.mul(blocks, panelBlockBytes(spec))));
    const x = widen ? words : p.x;
    body.for(0, p.rows, most, (first) => {
      const past = body.local(i32.add(first, most));
      body.if(i32.gt_s(past, p.rows), () => past.set(p.rows));
      if (widen) {
        const from = i32.add(p.x, i32.mul(first, p.columns));
        const count = i32.mul(i32.sub(past, first), p.columns);
        body.emit(widen.call(from, i32.add(from, p.lowOffset), words, count));
      }
      const run = (tile: FuncRef<"void">, at: Local<"i32">, row: Local<"i32">): void => {
        const inBlock = widen ? i32.sub(row, first) : row;
        const high = body.local(i32.add(x, i32.mul(inBlock, i32.mul(p.columns, valueBytes))));
        const records = i32.add(i32.add(p.x, p.recordOffset), i32.mul(row, recordRow));
        const start = body.local(i32.mul(row, p.yStride));
        const yEnd = i32.add(i32.add(p.y, start), i32.shl(p.outputs, 2));
        const y = i32.add(p.y, i32.add(start, i32.mul(at, 4 * groupRows * width)));
        const low = i32.add(high, p.lowOffset);
        body.emit(tile.call(high, low, records, p.scratch, y, yEnd, p.yStride, added, blocks));
      };
      body.for(begin, end, 1, (at) => {
        const group = body.local(i32.mul(at, width));
        const weight = i32.add(p.weight, i32.mul(group, p.groupBytes));
        const left = i32.sub(groups, group);
        body.emit(unpack.call(weight, p.groupBytes, left, p.scratch, blocks));
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

interface Token {
  readonly high: Local<"i32">;
  readonly low: Local<"i32">;
  readonly records: Local<"i32">;
  /** For each vector of 4 rows. */
  readonly sums: readonly Local<"v128">[];
  readonly blocks: readonly BlockSum[];
}

/** The rows of a panel × `tokens` tokens. */
function emitTile(
  module: WasmModule,
  name: string,
  spec: LinearSpec,
  shape: TileShape,
): FuncRef<"void"> {
  const { groups, tokens, valueBytes, planes } = shape;
  const vectors = Array.from({ length: 2 * groups }, (_, v) => v);
  const blockValues = blockColumns * valueBytes;
  const build = (p: Locals<typeof tileParams>, body: Body): void => {
    const all = Array.from({ length: tokens }, (_, t): Token => {
      const from = (start: Local<"i32">, bytes: number): Local<"i32"> =>
        t === 0 ? start : body.local(i32.add(start, i32.mul(p.blocks, bytes * t)));
      return {
        high: from(p.high, blockValues),
        low: from(p.low, blockValues),
        records: from(p.records, recordBytes),
        sums: vectors.map(() => body.local(f32x4.const([0, 0, 0, 0]))),
        blocks: vectors.map(() => new BlockSum(body, spec)),
      };
    });
    body.for(0, p.blocks, 1, () => {
      emitTileBlock(body, spec, shape, p.panel, all);
      p.panel.set(i32.add(p.panel, panelBlockBytes(spec)));
      for (const { high, low, records } of all) {
        high.set(i32.add(high, blockValues));
        if (planes === 2) low.set(i32.add(low, blockValues));
        records.set(i32.add(records, recordBytes));
      }
    });
    for (const { sums } of all) {
      storeToken(body, sums, p);
      for (const place of [p.y, p.yEnd]) place.set(i32.add(place, p.yStride));
    }
  };
  return module.func(name, tileParams, "void", build, { export: false });
}

/** Only the first group of a tile is sure to be there. */
function storeToken(
  body: Body,
  sums: readonly Local<"v128">[],
  { y, yEnd, added }: Locals<typeof tileParams>,
): void {
  storeGroup(body, sums.slice(0, 2), y, yEnd, added);
  for (let v = 2; v < sums.length; v += 2) {
    const to = body.local(i32.add(y, 16 * v));
    body.if(i32.lt_s(to, yEnd), () => storeGroup(body, sums.slice(v, v + 2), to, yEnd, added));
  }
}

function emitTileBlock(
  body: Body,
  spec: LinearSpec,
  { groups, steps, planes }: TileShape,
  panel: Local<"i32">,
  all: readonly Token[],
): void {
  const records = all.map((token) => loadToken(body, spec, token.records));
  const vectors = Array.from({ length: 2 * groups }, (_, v) => v);
  const coefficients = panelCoefficients(body, spec, panel);
  all.forEach(({ blocks }, t) => blocks.forEach((block) => block.start(records[t])));
  for (let step = 0; step < steps; step++) {
    if (step === steps / 2)
      all.forEach(({ blocks }, t) =>
        blocks.forEach((b, v) => b.middle(records[t], coefficients[v])),
      );
    const operands = vectors.map((v) => body.local(v128.load(panel, operandAt(spec, step, v))));
    for (const { high, low, blocks } of all) {
      const x = [high, low]
        .slice(0, planes)
        .map((digit) => body.local(v128.load32_splat(digit, 4 * step)));
      blocks.forEach((block, v) => block.step(x, operands[v]));
    }
  }
  all.forEach(({ blocks, sums }, t) =>
    blocks.forEach((block, v) => block.end(sums[v], records[t], coefficients[v])),
  );
}
