// Top-nσ (Tang et al. 2024): tokens whose logits lie within n standard deviations of the largest. A temperature before it
// changes nothing of the choice, since it scales both sides.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { Candidates } from '../../core/generation/candidates.ts';
import { keepFrom } from '../../core/generation/logits.ts';

/** Removes logits below max - n·σ, σ over the tokens that are left. */
export const topNSigma = defineSampler({
  name: 'top-n-sigma',
  description: 'keeps tokens within n standard deviations of the largest logit; 0 keeps all',
  options: z.strictObject({ n: z.number().nonnegative().default(1) }),
  create({ n }) {
    const candidates = new Candidates();
    return {
      kind: 'transform',
      apply(logits) {
        if (n === 0) return;
        const { best, logits: values, count } = candidates.gather(logits);
        keepFrom(logits, values[best] - n * deviation(values, count));
      },
    };
  },
});

/** Population standard deviation of the first `count` values. */
function deviation(values: Float64Array, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += values[i];
  const mean = sum / count;
  let squares = 0;
  for (let i = 0; i < count; i++) squares += (values[i] - mean) ** 2;
  return Math.sqrt(squares / count);
}
