// Random normal values as a kernel: what a backend brings must give the same bits.

import type { Random } from '../random.ts';
import type { FloatArray } from '../tensor/dtype.ts';

/** out = mean + deviation·normal values, element i a function of (step, start + i) alone. */
export function fillNormal(
  out: FloatArray,
  random: Random,
  mean: number,
  deviation: number,
  step: number,
  start: number,
): void {
  random.fillNormal(out, mean, deviation, step, start);
}
