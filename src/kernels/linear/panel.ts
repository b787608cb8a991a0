import { i32, integers, v128 } from "../../codegen/wasm/builder.ts";
import type { Body, FuncRef, Local, Locals, WasmModule } from "../../codegen/wasm/builder.ts";
import { forBlocks, loadCoefficients, loadQuants, planOf } from "./block.ts";
import type { Coefficients, LinearSpec, Supers } from "./block.ts";
import { inputShape, late, type InputShape, type Late } from "./dot.ts";

/** What a tile of the mat-mul multiplies at once. */
export interface TileShape extends InputShape {
  /** Groups of 8 rows, two vectors each. */
  readonly groups: number;
  readonly tokens: number;
  /** Steps of a block, each of 4 bytes of x. */
  readonly steps: number;
}

/** 8 sums fit the registers beside operands: 4 tokens or digits of them × 2 vectors of 4 rows, or of 8 where V8 joins them. */
export function shapeOf(spec: LinearSpec): TileShape {
  const shape = inputShape(planOf(spec), spec.digits);
  const tokens = 4 / shape.planes;
  const groups = spec.features.revectorize ? 2 : 1;
  return { ...shape, groups, tokens, steps: 8 * shape.valueBytes };
}

/**
 * A panel is, block after block, for each group:
 *
 *   scale A, B · [minimum A, B] · [2 × i32 sub-scales A, B] · [2 × i32 sub-minimums A, B] · operand of step 0 A, B … last step A, B
 */
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

/** Bytes of a block of a panel, all groups. */
export const panelBlockBytes = (spec: LinearSpec): number =>
  shapeOf(spec).groups * panelPlace(spec).bytes;
/** Where in a block of a panel the operand of a step lies, of a vector of the tile. */
export function operandAt(spec: LinearSpec, step: number, vector: number): number {
  const { bytes, quants } = panelPlace(spec);
  return (vector >> 1) * bytes + quants + 32 * step + 16 * (vector & 1);
}

const unpackParams = integers("weight groupBytes left panel blocks");

/** A panel of as many groups as it takes, or as are `left`. */
export function emitUnpack(module: WasmModule, name: string, spec: LinearSpec): FuncRef<"void"> {
  const { groups, valueBytes } = shapeOf(spec);
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

/** The coefficients of each vector of the tile. */
export const panelCoefficients = (
  body: Body,
  spec: LinearSpec,
  panel: Local<"i32">,
): Coefficients[] =>
  Array.from(
    { length: shapeOf(spec).groups },
    (_, group) => group * panelPlace(spec).bytes,
  ).flatMap((offset) => groupCoefficients(body, spec, panel, offset));

/** Those of vectors A and B of the group at `offset`. */
function groupCoefficients(
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
