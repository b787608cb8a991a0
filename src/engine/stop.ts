export interface Found {
  readonly text: string;
  readonly stopped: boolean;
}

/** Finds the first of some stop texts in a stream, holding back what may be the beginning of one. */
export class StopTexts {
  readonly #stops: readonly string[];
  #held = "";

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** Takes more text; returns what is certain to be part of the answer, and whether a stop text was reached. */
  push(text: string): Found {
    this.#held += text;
    const ends = this.#stops.map((stop) => this.#held.indexOf(stop)).filter((at) => at >= 0);
    if (ends.length > 0) return { text: this.#held.slice(0, Math.min(...ends)), stopped: true };
    const kept = Math.max(0, ...this.#stops.map((stop) => overlap(this.#held, stop)));
    const certain = this.#held.slice(0, this.#held.length - kept);
    this.#held = this.#held.slice(certain.length);
    return { text: certain, stopped: false };
  }

  /** Takes the last text; what was held back is part of the answer. */
  end(text: string): Found {
    const found = this.push(text);
    return found.stopped ? found : { text: found.text + this.#held, stopped: false };
  }
}

/** Length of the longest end of `text` that is a proper beginning of `stop`. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--)
    if (text.endsWith(stop.slice(0, length))) return length;
  return 0;
}
