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
  throw nothingLeft();
}

export function notANumber(id: number): GemmoeError {
  return new GemmoeError(
    'diverged',
    `no token can be chosen: the logit of id ${id} is NaN`,
    'the weights of the model are broken, as when training diverged: use an earlier checkpoint',
  );
}

export function nothingLeft(): GemmoeError {
  return new GemmoeError(
    'usage',
    'no token can be chosen: every logit is -Infinity',
    'a sampler of the chain removes every token: loosen it or leave it out',
  );
}

/** Removes every token but one. */
export function keepOnly(logits: FloatArray, id: number): void {
  for (let i = 0; i < logits.length; i++) if (i !== id) logits[i] = -Infinity;
}

/** Removes every token whose logit is below `threshold`. */
export function keepFrom(logits: FloatArray, threshold: number): void {
  for (let i = 0; i < logits.length; i++) if (logits[i] < threshold) logits[i] = -Infinity;
}

/** @throws GemmoeError when `owner` was given an id that is no row of the logits */
export function checkIds(owner: string, ids: readonly number[], vocabSize: number): void {
  const strange = ids.find((id) => id >= vocabSize);
  if (strange === undefined) return;
  throw new GemmoeError(
    'usage',
    `${owner}: token id ${strange} is outside the vocabulary of ${vocabSize}`,
    `ids run from 0 to ${vocabSize - 1}`,
  );
}

/** Divides the logits by a temperature; one so low that the quotients leave float32, as 0, keeps only the largest. */
export function divideLogits(logits: FloatArray, temperature: number): void {
  const best = largestLogit(logits);
  // several tokens would become equally infinite
  if (!Number.isFinite(Math.fround(logits[best] / temperature))) keepOnly(logits, best);
  else for (let i = 0; i < logits.length; i++) logits[i] /= temperature;
}
