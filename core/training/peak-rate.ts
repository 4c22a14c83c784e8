// The fastest that a backend multiplies here and now: what the use of a run is measured by.

import type { ProductKernels } from '../kernels.ts';

/** Sides of the square products that are tried, the next one while the last was quick. */
const SIDES = [128, 256, 512, 1024, 2048];
/** After a product that takes longer than this no larger one is tried, milliseconds. */
const QUICK = 25;
/** Each is done so often, as other work and a cold start only slow it, and fewer times when that takes long. */
const TIMES = 6;
const LEAST_TIMES = 2;
const LONG = 150;

/**
 * Floating-point operations a second of the best of a few square products `x·wᵀ`, a multiply-add counted as two; takes a fraction
 * of a second.
 * @param kernels those that training multiplies with
 */
export function measurePeakRate(kernels: Pick<ProductKernels, 'linear'>): number {
  let best = 0;
  for (const side of SIDES) {
    // not zeros: some processors multiply them faster
    const x = new Float32Array(side * side).fill(0.5);
    const w = new Float32Array(side * side).fill(0.25);
    const y = new Float32Array(side * side);
    let quickest = Infinity;
    const begin = performance.now();
    for (let i = 0; i < TIMES; i++) {
      if (i >= LEAST_TIMES && performance.now() - begin > LONG) break;
      const start = performance.now();
      kernels.linear(y, x, w, null, side, side, side, false);
      quickest = Math.min(quickest, performance.now() - start);
    }
    best = Math.max(best, (2 * side ** 3) / (quickest / 1000));
    if (quickest > QUICK) break;
  }
  return best;
}
