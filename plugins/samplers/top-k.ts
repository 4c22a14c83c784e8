// Top-k (Fan et al. 2018): the k most likely tokens, and those that tie with the k-th, as transformers keeps them.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { keepFrom } from '../../core/generation/logits.ts';
import { LargestValues } from '../../core/generation/selection.ts';

/** Removes all logits below the k-th largest; 0 keeps all. */
export const topK = defineSampler({
  name: 'top-k',
  description: 'keeps the k most likely tokens; 0 keeps all',
  options: z.strictObject({ k: z.int().nonnegative().default(40) }),
  create({ k }) {
    const largest = new LargestValues();
    return {
      kind: 'transform',
      apply(logits) {
        if (k > 0 && k < logits.length) keepFrom(logits, largest.kth(logits, k));
      },
    };
  },
});
