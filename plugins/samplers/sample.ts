// The pick that draws: a token with its probability.

import { defineSampler } from '../../core/plugin.ts';
import { Candidates } from '../../core/generation/candidates.ts';

/** Draws from softmax(logits) by its cumulative sum. */
export const sample = defineSampler({
  name: 'sample',
  description: 'draws a token with its probability',
  create() {
    const candidates = new Candidates();
    return {
      kind: 'pick',
      pick(logits, { random, step }) {
        const sum = candidates.gather(logits).weigh();
        return candidates.ids[candidates.draw(random.uniform(step, 0), sum)];
      },
    };
  },
});
