// Top-p, nucleus sampling (Holtzman et al. 2019): the fewest most likely tokens whose probabilities reach p.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { byFallingLogit, largestLogit } from '../../core/generation/logits.ts';

/** Removes the tail; the token that crosses p stays, and at least one token does. */
export const topP = defineSampler({
  name: 'top-p',
  description: 'keeps the most likely tokens that together reach probability p; 1 keeps all',
  options: z.strictObject({ p: z.number().min(0).max(1).default(0.95) }),
  create: ({ p }) => ({
    kind: 'transform',
    apply(logits) {
      if (p >= 1) return;
      const order = byFallingLogit(logits);
      const max = logits[largestLogit(logits)];
      let total = 0;
      for (let i = 0; i < logits.length; i++) total += Math.exp(logits[i] - max);
      let reached = 0;
      for (const id of order) {
        const probability = Math.exp(logits[id] - max) / total;
        if (reached > 0 && reached >= p) logits[id] = -Infinity;
        reached += probability;
      }
    },
  }),
});
