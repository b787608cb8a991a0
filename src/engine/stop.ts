/**
 * Finds the first of some stop texts in a stream, holding back what may be the beginning of one. The function takes more
 * text, or the `last`; it returns what is certain to be part of the answer, and whether a stop text was reached.
 */
export function stopFinder(
  stops: readonly string[],
): (text: string, last: boolean) => { readonly text: string; readonly stopped: boolean } {
  let held = "";
  return (text, last) => {
    held += text;
    const ends = stops.map((stop) => held.indexOf(stop)).filter((at) => at >= 0);
    if (ends.length > 0) return { text: held.slice(0, Math.min(...ends)), stopped: true };
    const kept = last ? 0 : Math.max(0, ...stops.map((stop) => overlap(held, stop)));
    const certain = held.slice(0, held.length - kept);
    held = held.slice(certain.length);
    return { text: certain, stopped: false };
  };
}

/** Length of the longest end of `text` that is a proper beginning of `stop`. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--)
    if (text.endsWith(stop.slice(0, length))) return length;
  return 0;
}
