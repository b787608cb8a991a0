/**
 * Elementary functions from IEEE additions, multiplications and divisions alone: the same bits on every JavaScript engine,
 * which `Math.pow`, `Math.sin` and `Math.cos` do not promise. Errors are a few units in the last place of f64.
 */

const ln2High = 6.9314718036912381649e-1; // fdlibm's split of ln 2: high part has 33 bits, so k × high is exact
const ln2Low = 1.90821492927058770002e-10;

/** e^x for |x| < 700. Cody and Waite reduction, then the Taylor series on |r| ≤ ln 2 / 2. */
export function exp(x: number): number {
  const k = Math.round(x / Math.LN2);
  const r = x - k * ln2High - k * ln2Low;
  let series = 1;
  for (let n = 18; n >= 1; n--) series = 1 + (r / n) * series;
  return series * 2 ** k;
}

/** Natural logarithm of x > 0: x = m × 2^k with m in [√½, √2), then 2·atanh((m − 1) / (m + 1)). */
export function log(x: number): number {
  let k = 0;
  let m = x;
  for (; m >= Math.SQRT2; m /= 2) k++;
  for (; m < Math.SQRT1_2; m *= 2) k--;
  const s = (m - 1) / (m + 1);
  let series = 0;
  for (let n = 41; n >= 1; n -= 2) series = series * s * s + 1 / n;
  return k * ln2High + (2 * s * series + k * ln2Low);
}

export const pow = (base: number, exponent: number): number => exp(exponent * log(base));

// π/2 in three parts of 33 bits (fdlibm): exact products up to 2^20 quarter turns.
const quarterTurn1 = 1.57079632673412561417;
const quarterTurn2 = 6.0771005063039659766e-11;
const quarterTurn3 = 2.02226624879595063154e-21;

/** [cos x, sin x] for |x| < 10^6 radians. */
export function cosSin(x: number): [number, number] {
  const turns = Math.round(x / (Math.PI / 2));
  const r = x - turns * quarterTurn1 - turns * quarterTurn2 - turns * quarterTurn3;
  const square = r * r;
  let cos = 1;
  let sin = 1;
  for (let n = 18; n >= 2; n -= 2) {
    cos = 1 - (square / (n * (n - 1))) * cos;
    sin = 1 - (square / (n * (n + 1))) * sin;
  }
  sin *= r;
  const [c, s] = turns & 1 ? [-sin, cos] : [cos, sin];
  return turns & 2 ? [-c, -s] : [c, s];
}
