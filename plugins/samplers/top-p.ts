// Top-p, nucleus sampling (Holtzman et al. 2019): the fewest most likely tokens whose probabilities reach p.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { Candidates } from '../../core/generation/candidates.ts';
import { MassSelection } from '../../core/generation/selection.ts';

/** Removes the tail; the token that crosses p stays, and at least one token does. Of equals, the lowest ids stay. */
export const topP = defineSampler({
  name: 'top-p',
  description: 'keeps the most likely tokens that together reach probability p; 1 keeps all',
  options: z.strictObject({ p: z.number().gt(0).max(1).default(0.95) }),
  create({ p }) {
    const candidates = new Candidates();
    const nucleus = new MassSelection();
    return {
      kind: 'transform',
      apply(logits) {
        if (p >= 1) return;
        const total = candidates.gather(logits).weigh();
        const { count, ids, logits: keys } = candidates;
        for (let i = 0; i < count; i++) keys[i] = -keys[i];
        nucleus.select(keys, candidates.probabilities, count, p * total);
        let { ties } = nucleus;
        for (let i = 0; i < count; i++) {
          if (keys[i] < nucleus.threshold || (keys[i] === nucleus.threshold && ties-- > 0)) continue;
          logits[ids[i]] = -Infinity;
        }
      },
    };
  },
});
