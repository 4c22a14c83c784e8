// What samplers do with logits again and again.

import { GemmoeError } from '../errors.ts';
import type { FloatArray } from '../tensor/dtype.ts';

/** Id of the largest logit; of equals, the lowest. @throws GemmoeError when every logit is NaN or -Infinity */
export function largestLogit(logits: FloatArray): number {
  let best = -1;
  for (let i = 0; i < logits.length; i++) {
    if (logits[i] > (best < 0 ? -Infinity : logits[best])) best = i;
  }
  if (best >= 0) return best;
  throw new GemmoeError(
    'diverged',
    'no token can be chosen: every logit is NaN or was removed',
    'the model may have diverged, or the sampler chain removes everything',
  );
}

/** Removes every token but one. */
export function keepOnly(logits: FloatArray, id: number): void {
  for (let i = 0; i < logits.length; i++) if (i !== id) logits[i] = -Infinity;
}

/** Ids by falling logit; of equals, the lowest id first. */
export function byFallingLogit(logits: FloatArray): Int32Array {
  return Int32Array.from(logits, (_, i) => i).sort((a, b) => logits[b] - logits[a] || a - b);
}
