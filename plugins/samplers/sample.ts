// The pick that draws: a token with its probability.

import { defineSampler } from '../../core/plugin.ts';
import { largestLogit } from '../../core/generation/logits.ts';

/** Draws from softmax(logits) by its cumulative sum. */
export const sample = defineSampler({
  name: 'sample',
  description: 'draws a token with its probability',
  create: () => ({
    kind: 'pick',
    pick(logits, { random, step }) {
      const best = largestLogit(logits);
      const max = logits[best];
      let sum = 0;
      for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i] - max);
      let left = random.uniform(step, 0) * sum;
      for (let i = 0; i < logits.length; i++) {
        left -= Math.exp(logits[i] - max);
        if (left < 0) return i;
      }
      return best; // rounding left a crumb
    },
  }),
});
