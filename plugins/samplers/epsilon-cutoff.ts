// Epsilon sampling (Hewitt, Manning & Liang 2022): no token less likely than epsilon, but always the likeliest.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { Candidates } from '../../core/generation/candidates.ts';

/** Removes p < epsilon; the paper uses 3e-4 to 9e-4. */
export const epsilonCutoff = defineSampler({
  name: 'epsilon-cutoff',
  description: 'removes tokens less likely than epsilon; 0 keeps all',
  options: z.strictObject({ epsilon: z.number().min(0).lt(1).default(6e-4) }),
  create({ epsilon }) {
    const candidates = new Candidates();
    return {
      kind: 'transform',
      apply(logits) {
        if (epsilon > 0) candidates.gather(logits).softmax().keepLikely(logits, epsilon);
      },
    };
  },
});
