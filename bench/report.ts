/** What the races against peers say of one metric, and how they print it. */
export interface Comparison {
  /** Medians of tokens a second. */
  readonly ours: number;
  readonly peer: number;
  /** The peer's better way. */
  readonly way: string;
  /** Median of the ratios of rounds. */
  readonly ratio: number;
}

export interface Row extends Comparison {
  readonly model: string;
  readonly format: string;
  readonly metric: string;
  readonly threads: number;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Our rates against those of the peer's ways, by round; the way with the best median counts. */
export function compare(
  ours: readonly number[],
  peer: readonly (readonly [way: string, rates: readonly number[]])[],
): Comparison {
  const [way, rates] = peer.reduce((a, b) => (median(b[1]) > median(a[1]) ? b : a));
  const ratio = median(ours.map((rate, round) => rate / rates[round]));
  return { ours: median(ours), peer: median(rates), way, ratio };
}

/** Prints lines of a table whose columns have these widths. */
export const printerOf =
  (widths: readonly number[]) =>
  (...cells: readonly (string | number)[]): void => {
    const text = (cell: string | number): string =>
      typeof cell === "number" && !Number.isInteger(cell) ? cell.toFixed(2) : String(cell);
    const line = cells.map((cell, at) => text(cell).padEnd(widths[at]));
    console.log(line.join("").trimEnd());
  };
