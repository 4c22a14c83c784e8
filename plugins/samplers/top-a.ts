// Top-a: a cut-off that grows with the square of the largest probability.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { Candidates } from '../../core/generation/candidates.ts';

/** Removes p < a·pmax². */
export const topA = defineSampler({
  name: 'top-a',
  description: 'removes tokens less likely than a times the square of the largest probability; 0 keeps all',
  options: z.strictObject({ a: z.number().min(0).max(1).default(0.2) }),
  create({ a }) {
    const candidates = new Candidates();
    return {
      kind: 'transform',
      apply(logits) {
        if (a === 0) return;
        const largest = candidates.gather(logits).softmax().probabilities[candidates.best];
        candidates.keepLikely(logits, a * largest * largest);
      },
    };
  },
});
