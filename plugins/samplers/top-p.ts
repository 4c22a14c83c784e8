// Top-p, nucleus sampling (Holtzman et al. 2019): the fewest most likely tokens whose probabilities reach p.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { keepLargest, largestLogit, LogitSorter } from '../../core/generation/logits.ts';

/** Removes the tail; the token that crosses p stays, and at least one token does. */
export const topP = defineSampler({
  name: 'top-p',
  description: 'keeps the most likely tokens that together reach probability p; 1 keeps all',
  options: z.strictObject({ p: z.number().min(0).max(1).default(0.95) }),
  create({ p }) {
    const sorter = new LogitSorter();
    return {
      kind: 'transform',
      apply(logits) {
        if (p >= 1) return;
        const max = logits[largestLogit(logits)];
        const rising = sorter.rising(logits);
        let total = 0;
        for (let i = 0; i < rising.length; i++) total += Math.exp(rising[i] - max);
        let first = rising.length;
        let reached = 0;
        do reached += Math.exp(rising[--first] - max);
        while (reached < p * total && first > 0);
        keepLargest(logits, rising.length - first, rising[first]);
      },
    };
  },
});
