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
  type Coefficients,
  type LinearSpec,
  type Supers,
} from "./block.ts";
import { inputShape, late, type InputShape, type Late } from "./dot.ts";
import { linearParams } from "./matvec.ts";
import { emitWords } from "./words.ts";

/**
 * Many rows: a few groups of 8 weight rows are unpacked once into a panel in the thread's scratch (a byte or a word a quant, f32
 * scales), then tiles of so many rows × a few tokens run over it. A panel is, block after block, for each group:
 *
 *   scale A, B · [minimum A, B] · [2 × i32 sub-scales A, B] · [2 × i32 sub-minimums A, B] · operand of step 0 A, B … last step A, B
 *
 * Where quants are words, x is made words too, in the scratch behind the panel.
 */
interface TileShape extends InputShape {
  /** Groups of 8 rows, two vectors each. */
  readonly groups: number;
  readonly tokens: number;
  /** Steps of a block, each of 4 bytes of x. */
  readonly steps: number;
}

/**
 * Bytes of activations that a block of tokens may take: they stay in a cache of 2 MiB a core, and in one of 512 KiB it costs more to
 * unpack weights for fewer tokens than to read them from behind it (docs/log.md).
 */
const tokenBlockBytes = 1 << 20;
/** Sums that fit the registers beside operands, vectors of 4 rows; joined ones of 8. */
const registerSums = 8;

function shapeOf(spec: LinearSpec): TileShape {
  const shape = inputShape(planOf(spec), spec.digits);
  const tokens = 4 / shape.planes;
  const groups = spec.features.revectorize ? registerSums / shape.planes / tokens : 1;
  return { ...shape, groups, tokens, steps: 8 * shape.valueBytes };
}
const isWords = ({ valueBytes }: InputShape): boolean => valueBytes === 2;

interface PanelPlace {
  readonly minimum: number;
  readonly subScales: number;
  readonly subMinimums: number;
  readonly quants: number;
  /** Bytes of a block of one group. */
  readonly bytes: number;
}

function panelPlace(spec: LinearSpec): PanelPlace {
  const { layout } = spec;
  const minimum = 32;
  const subScales = minimum + (layout.minimum ? 32 : 0);
  const subs = layout.subs === 2 ? 64 : 0;
  const subMinimums = subScales + subs;
  const quants = subMinimums + (layout.minimum ? subs : 0);
  return { minimum, subScales, subMinimums, quants, bytes: quants + 32 * shapeOf(spec).steps };
}

/** Tokens of a block, in tiles. */
const tokensFit = ({ tokens, valueBytes }: TileShape, columns: Expr<"i32">): Expr<"i32"> =>
  i32.mul(i32.div_u(i32.const(tokenBlockBytes / valueBytes / tokens), columns), tokens);

/** Scratch that a thread needs: a panel, and words of a block of tokens. */
export function matmulScratchBytes(spec: LinearSpec, columns: number): number {
  const shape = shapeOf(spec);
  const { groups, tokens } = shape;
  const panel = (columns / blockColumns) * groups * panelPlace(spec).bytes;
  return panel + (isWords(shape) ? Math.max(tokenBlockBytes, 2 * tokens * columns) : 0);
}

const tileParams = integers("high low records panel y yEnd yStride added blocks");

/** Y = W X (+ residual) for many tokens. */
export function emitMatmul(module: WasmModule, name: string, spec: LinearSpec): void {
  const shape = shapeOf(spec);
  const { groups: width, tokens, valueBytes } = shape;
  const unpack = emitUnpack(module, `${name}:unpack`, spec, shape);
  const widen = isWords(shape) ? emitWords(module, `${name}:words`, spec.digits) : undefined;
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
    const words = body.local(i32.add(p.scratch, i32.mul(blocks, width * panelPlace(spec).bytes)));
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

const unpackParams = integers("weight groupBytes left panel blocks");

/** A panel of as many groups as it takes, or as are `left`. */
function emitUnpack(
  module: WasmModule,
  name: string,
  spec: LinearSpec,
  { groups, valueBytes }: TileShape,
): FuncRef<"void"> {
  const place = panelPlace(spec);
  const unpackBlock = (body: Body, weight: Local<"i32">, panel: Local<"i32">, supers: Supers) => {
    const both = loadCoefficients(body, spec, weight, supers);
    both.forEach(({ scale, minimum, subScales, subMinimums }, v) => {
      const store = (vector: Late, offset: number): void =>
        body.emit(v128.store(panel, vector(), offset + 16 * v));
      store(scale, 0);
      if (minimum) store(minimum, place.minimum);
      subScales.forEach((vector, half) => store(vector, place.subScales + 32 * half));
      subMinimums.forEach((vector, half) => store(vector, place.subMinimums + 32 * half));
    });
    for (let pair = 0; pair < 4; pair++)
      loadQuants(body, spec, weight, pair).forEach((vectors, step) => {
        const at = place.quants + 32 * (2 * pair * valueBytes + step);
        vectors.forEach((quants, v) => body.emit(v128.store(panel, quants, at + 16 * v)));
      });
  };
  const build = (p: Locals<typeof unpackParams>, body: Body): void =>
    body.for(0, groups, 1, (group) =>
      body.if(i32.lt_s(group, p.left), () => {
        const weight = body.local(i32.add(p.weight, i32.mul(group, p.groupBytes)));
        const panel = body.local(i32.add(p.panel, i32.mul(group, place.bytes)));
        forBlocks(body, spec, p.blocks, [weight], ([supers]) => {
          unpackBlock(body, weight, panel, supers);
          panel.set(i32.add(panel, groups * place.bytes));
        });
      }),
    );
  return module.func(name, unpackParams, "void", build, { export: false });
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
      p.panel.set(i32.add(p.panel, groups * panelPlace(spec).bytes));
      for (const { high, low, records } of all) {
        high.set(i32.add(high, blockValues));
        if (planes === 2) low.set(i32.add(low, blockValues));
        records.set(i32.add(records, recordBytes));
      }
    });
    for (const { sums } of all) {
      for (let group = 0; group < groups; group++) {
        const y = group === 0 ? p.y : body.local(i32.add(p.y, 4 * groupRows * group));
        const store = (): void =>
          storeGroup(body, sums.slice(2 * group, 2 * group + 2), y, p.yEnd, p.added);
        if (group === 0) store();
        else body.if(i32.lt_s(y, p.yEnd), store);
      }
      for (const place of [p.y, p.yEnd]) place.set(i32.add(place, p.yStride));
    }
  };
  return module.func(name, tileParams, "void", build, { export: false });
}

function emitTileBlock(
  body: Body,
  spec: LinearSpec,
  { groups, steps, planes }: TileShape,
  panel: Local<"i32">,
  all: readonly Token[],
): void {
  const place = panelPlace(spec);
  const records = all.map((token) => loadToken(body, spec, token.records));
  const offsets = Array.from({ length: groups }, (_, group) => group * place.bytes);
  const coefficients = offsets.flatMap((offset) => panelCoefficients(body, spec, panel, offset));
  all.forEach(({ blocks }, t) => blocks.forEach((block) => block.start(records[t])));
  for (let step = 0; step < steps; step++) {
    if (step === steps / 2)
      all.forEach(({ blocks }, t) =>
        blocks.forEach((b, v) => b.middle(records[t], coefficients[v])),
      );
    const operands = offsets.flatMap((offset) =>
      [0, 16].map((v) => body.local(v128.load(panel, offset + place.quants + 32 * step + v))),
    );
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

/** The coefficients of vectors A and B of the group at `offset` of a panel. */
function panelCoefficients(
  body: Body,
  spec: LinearSpec,
  panel: Local<"i32">,
  offset: number,
): Coefficients[] {
  const { layout } = spec;
  const place = panelPlace(spec);
  return [0, 16].map((v) => {
    const load = (at: number): Late => late(body, () => v128.load(panel, offset + at + v));
    const halves = (at: number): Late[] => [0, 32].map((half) => load(at + half));
    return {
      scale: load(0),
      minimum: layout.minimum ? load(place.minimum) : undefined,
      subScales: layout.subs === 2 ? halves(place.subScales) : [],
      subMinimums: layout.subs === 2 && layout.minimum ? halves(place.subMinimums) : [],
    };
  });
}
