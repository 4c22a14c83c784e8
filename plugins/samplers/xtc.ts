// XTC, "exclude top choices" (p-e-w 2024): now and then, of the tokens that would all do, only the least likely one stays.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { Candidates } from '../../core/generation/candidates.ts';

/** With the given probability: where two tokens or more reach the threshold, removes all of them but the least likely. */
export const xtc = defineSampler({
  name: 'xtc',
  description: 'now and then removes all tokens that reach the threshold but the least likely of them',
  options: z.strictObject({
    probability: z.number().min(0).max(1).default(0.5),
    threshold: z.number().gt(0).max(1).default(0.1),
  }),
  create({ probability, threshold }) {
    const candidates = new Candidates();
    return {
      kind: 'transform',
      apply(logits, { random, step }) {
        if (random.uniform(step, 0) >= probability) return;
        const { count, ids, probabilities } = candidates.gather(logits).softmax();
        let spared = -1;
        for (let i = 0; i < count; i++) {
          if (probabilities[i] < threshold) continue;
          // of equals, the highest id: the last of a stable sort
          if (spared < 0 || probabilities[i] <= probabilities[spared]) spared = i;
        }
        for (let i = 0; i < count; i++) {
          if (probabilities[i] >= threshold && i !== spared) logits[ids[i]] = -Infinity;
        }
      },
    };
  },
});
