// What samplers do with logits again and again.

import { GemmoeError } from '../errors.ts';
import type { FloatArray } from '../tensor/dtype.ts';

/** Id of the largest logit; of equals, the lowest. @throws GemmoeError when a logit is NaN, or every one is -Infinity */
export function largestLogit(logits: FloatArray): number {
  let best = -1;
  for (let i = 0; i < logits.length; i++) {
    if (logits[i] > (best < 0 ? -Infinity : logits[best])) best = i;
    else if (Number.isNaN(logits[i])) throw notANumber(i);
  }
  if (best >= 0) return best;
  throw new GemmoeError(
    'usage',
    'no token can be chosen: every logit is -Infinity',
    'a sampler of the chain removes every token: loosen it or leave it out',
  );
}

function notANumber(id: number): GemmoeError {
  return new GemmoeError(
    'diverged',
    `no token can be chosen: the logit of id ${id} is NaN`,
    'the weights of the model are broken, as when training diverged: use an earlier checkpoint',
  );
}

/** Removes every token but one. */
export function keepOnly(logits: FloatArray, id: number): void {
  for (let i = 0; i < logits.length; i++) if (i !== id) logits[i] = -Infinity;
}

/** Removes all but the `count` largest logits, the smallest of which is `threshold`; of equals, the lowest ids stay. */
export function keepLargest(logits: FloatArray, count: number, threshold: number): void {
  let ties = count;
  for (let i = 0; i < logits.length; i++) if (logits[i] > threshold) ties--;
  for (let i = 0; i < logits.length; i++) {
    if (logits[i] > threshold || (logits[i] === threshold && ties-- > 0)) continue;
    logits[i] = -Infinity;
  }
}

/** Sorts copies of logits in one buffer of its own: a sort of plain values is several times faster than one of ids. */
export class LogitSorter {
  private buffer = new Float64Array(0);

  /** The logits in rising order, NaN last; valid until the next call. */
  rising(logits: FloatArray): Float64Array {
    if (this.buffer.length !== logits.length) this.buffer = new Float64Array(logits.length);
    this.buffer.set(logits);
    return this.buffer.sort();
  }
}
