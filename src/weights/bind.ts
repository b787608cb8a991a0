import { InputError } from "../base/errors.ts";
import type { WeightSegment, WeightSource } from "../devices/device.ts";
import { sourcesOf, type Module, type ParameterSource } from "../nn/module.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { interleavesHeads, mayBeLeft, nameIn } from "./names.ts";
import { columnsOf, rowsOf, type CheckpointTensor } from "./tensors.ts";

export interface HeadSizes {
  readonly headDim: number;
}
const mostReported = 10;

/**
 * The checkpoint's tensors as the weights of a module, in the order of its parameters. Errors: InputError that names every
 * tensor that is missing, superfluous or of the wrong shape (ten at most), before any is read.
 */
export function bindWeights(
  checkpoint: Checkpoint,
  module: Module,
  { headDim }: HeadSizes,
): WeightSource[] {
  const byName = new Map(checkpoint.tensors.map((tensor) => [tensor.name, tensor] as const));
  const used = new Set<string>();
  const problems: string[] = [];
  const sources = [...module.namedParameters()].map(([name, parameter]) => {
    const columns = columnsOf(parameter.shape);
    const segments = sourcesOf(name, parameter).flatMap((source) => {
      const stored = nameIn(checkpoint.dialect, source.name);
      used.add(stored);
      const tensor = byName.get(stored);
      const expected = parameter.shape.length === 1 ? [columns] : [source.rows, columns];
      const problem = problemOf(stored, tensor, expected);
      if (problem !== undefined) problems.push(problem);
      return tensor
        ? [segmentOf(tensor, source, interleavesHeads(checkpoint.dialect) ? headDim : 0)]
        : [];
    });
    return { name, segments };
  });
  for (const name of byName.keys())
    if (!used.has(name) && !mayBeLeft(name) && !isTiedHead(checkpoint, name))
      problems.push(`${name} is not part of the model`);
  if (problems.length > 0) throw mismatch(checkpoint, problems);
  return sources;
}

/** Some exporters write the head again although the embedding table is the head. */
const isTiedHead = ({ config, dialect }: Checkpoint, name: string): boolean =>
  config.json.tie_word_embeddings === true && name === nameIn(dialect, "lm_head.weight");

function problemOf(
  name: string,
  tensor: CheckpointTensor | undefined,
  expected: readonly number[],
): string | undefined {
  if (tensor === undefined) return `${name} is missing`;
  if (tensor.shape.join() === expected.join()) return undefined;
  return `${name}: expected [${expected.join(", ")}], got [${tensor.shape.join(", ")}]`;
}

function mismatch({ path }: Checkpoint, problems: readonly string[]): InputError {
  const shown = problems.slice(0, mostReported);
  const more = problems.length > shown.length ? `; and ${problems.length - shown.length} more` : "";
  return new InputError(
    "weights",
    `${path}: the tensors do not fit the config: ${shown.join("; ")}${more}. Is the checkpoint complete, and of this architecture?`,
    { problems },
  );
}

const segmentOf = (
  tensor: CheckpointTensor,
  source: ParameterSource,
  headDim: number,
): WeightSegment => ({
  format: tensor.format,
  rows: rowsOf(tensor.shape),
  columns: columnsOf(tensor.shape),
  rowOrder:
    headDim > 0 && /\.(q|k)_proj\.weight$/.test(source.name)
      ? { kind: "interleaved", headDim }
      : { kind: "plain" },
  read: tensor.read,
});
