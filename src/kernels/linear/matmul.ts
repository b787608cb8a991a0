import { f32x4, i32, v128, type V128 } from "../../codegen/wasm/builder.ts";
import type { Body, FuncRef, Local } from "../../codegen/wasm/builder.ts";
import { blockColumns, groupRows } from "../../quant/compute-layout.ts";
import { internal, rowAt, share, type Emit, type Func } from "../program.ts";
import { recordBytes } from "../rows.ts";
import { addedTo, blockSum, coefficientCount, forBlocks, loadQuants } from "./block.ts";
import { storeGroup, tokenAt } from "./block.ts";
import type { BlockSum, Coefficients, LinearParam, Token } from "./block.ts";
import { emitWords, late, type LinearSpec } from "./dot.ts";

/**
 * Bytes of activations that a block of tokens may take: they stay in a cache of 2 MiB a core, and in one of 512 KiB it costs more to
 * unpack weights for fewer tokens than to read them from behind it (docs/log.md).
 */
const tokenBlockBytes = 1 << 20;

/** Scratch that a thread needs: a panel, and words of a block of tokens. */
export function matmulScratchBytes(spec: LinearSpec, columns: number): number {
  const { tokens, blockBytes } = panelOf(spec);
  const panel = (columns / blockColumns) * blockBytes;
  const words = Math.max(tokenBlockBytes, 2 * tokens * columns);
  return panel + (spec.plan.valueBytes === 2 ? words : 0);
}

/**
 * Y = W X (+ residual) for many tokens: a few groups of 8 weight rows are unpacked once into a panel in the thread's scratch (a byte or
 * a word a quant, f32 scales), then tiles of so many rows × a few tokens run over it. Where quants are words, x is made words
 * too, in the scratch behind the panel.
 */
export function emitMatmul(code: LinearSpec & Func<LinearParam>): void {
  const { body, p, plan } = code;
  const { groups: width, tokens, blockBytes } = panelOf(code);
  const unpack = emitUnpack(code);
  const widen = plan.dot === "words" ? emitWords(code) : undefined;
  const [wide, one] = [tokens, 1].map((count) => emitTile(count)(code));
  const groups = body.local(i32.div_u(i32.add(p.outputs, groupRows - 1), groupRows));
  const panels = i32.div_u(i32.add(groups, width - 1), width);
  const { begin, end } = share(body, panels, p.thread, p.threads);
  const blocks = body.local(i32.div_u(p.columns, blockColumns));
  const recordRow = body.local(i32.mul(blocks, recordBytes));
  const tiles = i32.div_u(i32.const(tokenBlockBytes / plan.valueBytes / tokens), p.columns);
  const most = body.local(i32.mul(tiles, tokens));
  body.if(i32.eqz(most), () => most.set(tokens));
  const added = addedTo(body, p.y, p.residual);
  const words = body.at(p.scratch, i32.mul(blocks, blockBytes));
  const x = widen ? words : p.x;
  const rowBytes = i32.mul(p.columns, plan.valueBytes);
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
      const high = rowAt(body, x, inBlock, rowBytes);
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
      body.while(i32.le_s(i32.add(row, tokens), past), () => {
        run(wide, at, row);
        row.set(i32.add(row, tokens));
      });
      body.for(row, past, 1, (left) => run(one, at, left));
    });
  });
}

/**
 * What tiles of the mat-mul multiply, most of which have so many `tokens`. A panel is, block after block, for each of its `groups` of
 * 8 rows, 16 bytes each:
 *
 *   coefficient 0 A, B … last coefficient A, B · operand of step 0 A, B … last step A, B
 *
 * A step is 4 bytes of x; `groupBytes` of a block are of one group.
 */
type Panel = Readonly<
  Record<"groups" | "tokens" | "coefficients" | "steps" | "groupBytes" | "blockBytes", number>
>;

/** 8 sums fit the registers beside operands: 4 tokens or digits of them × 2 vectors of 4 rows, or of 8 where V8 joins them. */
function panelOf({ layout, plan, revectorize }: LinearSpec): Panel {
  const [groups, tokens] = [revectorize ? 2 : 1, 4 / plan.planes];
  const [coefficients, steps] = [coefficientCount(layout), 8 * plan.valueBytes];
  const groupBytes = 32 * (coefficients + steps);
  return { groups, tokens, coefficients, steps, groupBytes, blockBytes: groups * groupBytes };
}

/** Where in a block a coefficient of a vector lies, of the vectors of all groups. */
const coefficientAt = ({ groupBytes }: Panel, index: number, vector: number): number =>
  (vector >> 1) * groupBytes + 32 * index + 16 * (vector & 1);
/** Where in a block the operand of a step and a vector lies. */
const operandAt = (panel: Panel, step: number, vector: number): number =>
  coefficientAt(panel, panel.coefficients + step, vector);

const unpackParams = "weight groupBytes left panel blocks";

/** A panel of as many groups as it takes, or as are `left`. */
const emitUnpack: Emit<LinearSpec> = internal("unpack", unpackParams, (code) => {
  const { body, p } = code;
  const shape = panelOf(code);
  body.for(0, shape.groups, 1, (group) =>
    body.if(i32.lt_s(group, p.left), () => {
      const weight = rowAt(body, p.weight, group, p.groupBytes);
      const panel = rowAt(body, p.panel, group, shape.groupBytes);
      const store = (at: number, value: V128): void => body.emit(v128.store(panel, value, at));
      forBlocks(code, p.blocks, [weight], (load) => {
        for (const [v, coefficients] of load()[0].entries())
          coefficients.forEach((value, index) => store(coefficientAt(shape, index, v), value()));
        for (let pair = 0; pair < 4; pair++)
          for (const [n, vectors] of loadQuants(code, weight, pair).entries()) {
            const step = (pair * shape.steps) / 4 + n;
            vectors.forEach((quants, v) => store(operandAt(shape, step, v), quants));
          }
        panel.set(i32.add(panel, shape.blockBytes));
      });
    }),
  );
});

/** The coefficients of each vector of the groups of a block at `panel`. */
const panelCoefficients = (body: Body, shape: Panel, panel: Local<"i32">): Coefficients[] =>
  Array.from({ length: 2 * shape.groups }, (_, v) =>
    Array.from({ length: shape.coefficients }, (_, index) =>
      late(body, () => v128.load(panel, coefficientAt(shape, index, v))),
    ),
  );

const tileParams = "high low records panel y yEnd yStride added blocks";

/** The rows of a panel × `count` tokens. */
const emitTile = (count: number): Emit<LinearSpec> =>
  internal(`tile of ${count}`, tileParams, (code) => {
    const { body, p, plan } = code;
    const panel = panelOf(code);
    const all = Array.from({ length: count }, (_, t) => {
      const from = (start: Local<"i32">, bytes: number): Local<"i32"> =>
        t === 0 ? start : body.at(start, i32.mul(p.blocks, bytes * t));
      const digits = [p.high, p.low].map((start) => from(start, blockColumns * plan.valueBytes));
      const token = tokenAt(code, [...digits, from(p.records, recordBytes)]);
      const sums = Array.from({ length: 2 * panel.groups }, () => body.local(f32x4.const(0)));
      return { token, sums, blocks: sums.map((sum) => blockSum(code, sum)) };
    });
    const addBlock = (): void => {
      const coefficients = panelCoefficients(body, panel, p.panel);
      const each = (act: (block: BlockSum, token: Token, own: Coefficients) => void): void => {
        for (const { token, blocks } of all)
          for (const [v, block] of blocks.entries()) act(block, token, coefficients[v]);
      };
      each((block, token) => block.start(token));
      for (let step = 0; step < panel.steps; step++) {
        if (step === panel.steps / 2) each((block, token, own) => block.middle(token, own));
        const operands = coefficients.map((_, v) =>
          body.local(v128.load(p.panel, operandAt(panel, step, v))),
        );
        for (const { token, blocks } of all) {
          const x = token.x(4 * step);
          blocks.forEach((block, v) => block.step(x, operands[v]));
        }
      }
      each((block, token, own) => block.end(token, own));
    };
    body.for(0, p.blocks, 1, () => {
      addBlock();
      p.panel.set(i32.add(p.panel, panel.blockBytes));
      for (const { token } of all) token.toNextBlock();
    });
    for (const { sums } of all) {
      storeGroup(body, sums.slice(0, 2), p);
      // only the first group of a tile is sure to be there
      for (let v = 2; v < sums.length; v += 2) {
        const y = body.at(p.y, 16 * v);
        const store = (): void => storeGroup(body, sums.slice(v, v + 2), { ...p, y });
        body.if(i32.lt_s(y, p.yEnd), store);
      }
      for (const place of [p.y, p.yEnd]) place.set(i32.add(place, p.yStride));
    }
  });
