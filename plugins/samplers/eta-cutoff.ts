// Eta sampling (Hewitt, Manning & Liang 2022): a cut-off that sinks where the model is unsure.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { Candidates } from '../../core/generation/candidates.ts';

/** Removes p < min(epsilon, √epsilon·e^-H), H the entropy in nats, as transformers computes it; the likeliest stays. */
export const etaCutoff = defineSampler({
  name: 'eta-cutoff',
  description: 'removes tokens less likely than min(ε, √ε·exp(-entropy)); 0 keeps all',
  options: z.strictObject({ epsilon: z.number().min(0).lt(1).default(2e-3) }),
  create({ epsilon }) {
    const candidates = new Candidates();
    return {
      kind: 'transform',
      apply(logits) {
        if (epsilon === 0) return;
        const entropy = candidates.gather(logits).softmax().entropy();
        candidates.keepLikely(logits, Math.min(epsilon, Math.sqrt(epsilon) * Math.exp(-entropy)));
      },
    };
  },
});
