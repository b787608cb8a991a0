import { f32x4, i32 } from "../../codegen/wasm/builder.ts";
import type { Expr, FuncRef, Local } from "../../codegen/wasm/builder.ts";
import { blockColumns, groupRows } from "../../quant/compute-layout.ts";
import { internal, rowAt, share, type Emit, type Func } from "../program.ts";
import { recordBytes } from "../rows.ts";
import { addedTo, blockSum, forBlocks, loadQuants, storeGroup, tokenAt } from "./block.ts";
import type { LinearParam, Load, Token } from "./block.ts";
import { emitWords, type LinearSpec } from "./dot.ts";

/**
 * Few rows: weights stream from memory once a token, unpacked in registers. Several groups of rows are in flight at a
 * time, far apart, because one sequential stream does not fill the memory pipe.
 */
const streams = 4;

/** `unit`: groups that are not parted among threads; `words`: where x is made words, if they are multiplied. */
type Param = LinearParam | "unit words";

/** y = W x (+ residual) for each of a few tokens. */
export function emitMatvec(code: LinearSpec & Func<Param>): void {
  const { body, p, plan } = code;
  const [many, one] = [streams, 1].map((count) => emitStripe(count)(code));
  const widen = plan.dot === "words" ? emitWords(code) : undefined;
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
  const count = i32.mul(p.rows, p.columns);
  if (widen) body.emit(widen.call(p.x, i32.add(p.x, p.lowOffset), p.words, count));
  const x = widen ? p.words : p.x;
  const rowBytes = i32.mul(p.columns, plan.valueBytes);
  body.for(0, p.rows, 1, (row) => {
    const high = rowAt(body, x, row, rowBytes);
    const low = i32.add(high, p.lowOffset);
    const records = i32.add(i32.add(p.x, p.recordOffset), i32.mul(row, recordRow));
    const y = rowAt(body, p.y, row, p.yStride);
    const yEnd = i32.add(y, i32.shl(p.outputs, 2));
    const run = (stripe: FuncRef<"void">, at: Local<"i32">, count: Expr<"i32">): void => {
      const weight = i32.add(p.weight, i32.mul(at, p.groupBytes));
      const to = i32.add(y, i32.shl(at, 5));
      const place = [high, low, records, weight, p.groupBytes, to, yEnd, added];
      body.if(i32.gt_s(count, 0), () => body.emit(stripe.call(...place, blocks, count)));
    };
    run(many, begin, perStream);
    run(one, rest, i32.sub(end, rest));
  });
}

const stripeParams = "high low records weight groupBytes y yEnd added blocks groups";

/** `groups` groups of 8 rows of each of `count` streams, which lie `groups` groups apart. */
const emitStripe = (count: number): Emit<LinearSpec> =>
  internal(`stripe of ${count}`, stripeParams, (code) => {
    const { body, p, plan } = code;
    const apart = body.local(i32.mul(p.groups, p.groupBytes));
    const rowsApart = body.local(i32.shl(p.groups, 5));
    let { weight, y } = p;
    const all = Array.from({ length: count }, (_, s) => {
      weight = body.local(s === 0 ? weight : i32.add(weight, apart));
      y = body.local(s === 0 ? y : i32.add(y, rowsApart));
      const sums = [body.local("v128"), body.local("v128")];
      return { weight, y, sums, blocks: sums.map((sum) => blockSum(code, sum)) };
    });
    const addBlock = (token: Token, load: Load): void => {
      for (const { blocks } of all) for (const block of blocks) block.start(token);
      const coefficients = load();
      const steps = 2 * plan.valueBytes; // of a pair
      for (let pair = 0; pair < 4; pair++) {
        const x = Array.from({ length: steps }, (_, step) => token.x(4 * (steps * pair + step)));
        for (const [s, { weight, blocks }] of all.entries()) {
          if (pair === 2) blocks.forEach((block, v) => block.middle(token, coefficients[s][v]));
          for (const [step, vectors] of loadQuants(code, weight, pair).entries())
            vectors.forEach((quants, v) => blocks[v].step(x[step], quants));
        }
      }
      for (const [s, { blocks }] of all.entries())
        blocks.forEach((block, v) => block.end(token, coefficients[s][v]));
    };
    const weights = all.map(({ weight }) => weight);
    body.for(0, p.groups, 1, () => {
      const token = tokenAt(
        code,
        [p.high, p.low, p.records].map((start) => body.local(start)),
      );
      for (const { sums } of all) for (const sum of sums) sum.set(f32x4.const(0));
      forBlocks(code, p.blocks, weights, (load) => {
        addBlock(token, load);
        token.toNextBlock();
      });
      for (const { y, sums } of all) {
        storeGroup(body, sums, { ...p, y });
        y.set(i32.add(y, 32));
      }
    });
  });
