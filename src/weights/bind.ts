import { refusal } from "../base/errors.ts";
import type { RowOrder, WeightSource } from "../devices/device.ts";
import { sourcesOf, type Module } from "../nn/module.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { interleavesHeads, nameIn } from "./names.ts";
import { columnsOf, rowsOf } from "./tensors.ts";

const mostReported = 10;

/**
 * The checkpoint's tensors as the weights of a module, in the order of its parameters. Errors: InputError that names every
 * tensor that is missing, superfluous or of the wrong shape (ten at most), before any is read.
 */
export function bindWeights(
  checkpoint: Checkpoint,
  module: Module,
  { headDim }: { readonly headDim: number },
): WeightSource[] {
  const { kind, path, tensors } = checkpoint;
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor] as const));
  const used = new Set<string>();
  const problems: string[] = [];
  const sources = [...module.namedParameters()].map(([name, parameter]) => {
    const columns = columnsOf(parameter.shape);
    const segments = sourcesOf(name, parameter).flatMap((source) => {
      const stored = nameIn(kind, source.name);
      const tensor = byName.get(stored);
      used.add(stored);
      if (tensor === undefined) {
        problems.push(`${stored} is missing`);
        return [];
      }
      const { format, shape, read } = tensor;
      const expected = parameter.shape.length === 1 ? [columns] : [source.rows, columns];
      if (shape.join() !== expected.join())
        problems.push(`${stored}: expected [${expected.join(", ")}], got [${shape.join(", ")}]`);
      const turns = interleavesHeads(kind) && /\.(q|k)_proj\.weight$/.test(source.name);
      const rowOrder: RowOrder = turns ? { kind: "interleaved", headDim } : { kind: "plain" };
      return [{ format, rows: rowsOf(shape), columns: columnsOf(shape), rowOrder, read }];
    });
    return { name, segments };
  });
  for (const name of byName.keys())
    if (!used.has(name) && !mayBeLeft(checkpoint, name))
      problems.push(`${name} is not part of the model`);
  if (problems.length === 0) return sources;
  const shown = problems.slice(0, mostReported).join("; ");
  const more = problems.length > mostReported ? `; and ${problems.length - mostReported} more` : "";
  const advice = "Is the checkpoint complete, and of this architecture?";
  const problem = `the tensors do not fit the config: ${shown}${more}. ${advice}`;
  return refusal("weights", path, { problems })(problem);
}

/** Some exporters write the rotary tables, which are computed, or the head again although the embedding table is the head. */
const mayBeLeft = ({ config, kind }: Checkpoint, name: string): boolean =>
  /(^|\.)rotary_emb\.inv_freq$/.test(name) ||
  (config.json.tie_word_embeddings === true && name === nameIn(kind, "lm_head.weight"));
