// Locally typical sampling (Meister et al. 2022): tokens whose surprise is close to what the model expects on average.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { Candidates } from '../../core/generation/candidates.ts';
import { MassSelection } from '../../core/generation/selection.ts';

/** Keeps tokens in the order of |-ln p - H|, until their probabilities reach `mass`; ties with the last one stay. */
export const typical = defineSampler({
  name: 'typical',
  description: 'keeps tokens of about average surprise that together reach a probability; 1 keeps all',
  options: z.strictObject({ mass: z.number().gt(0).max(1).default(0.9) }),
  create({ mass }) {
    const candidates = new Candidates();
    const selection = new MassSelection();
    return {
      kind: 'transform',
      apply(logits) {
        if (mass >= 1) return;
        const entropy = candidates.gather(logits).softmax().entropy();
        const { best, count, ids, probabilities, logits: keys } = candidates;
        // -ln p = offset - logit, finite also where p is too small for a number
        const offset = keys[best] - Math.log(probabilities[best]);
        for (let i = 0; i < count; i++) keys[i] = Math.abs(offset - keys[i] - entropy);
        selection.select(keys, probabilities, count, mass);
        for (let i = 0; i < count; i++) if (keys[i] > selection.threshold) logits[ids[i]] = -Infinity;
      },
    };
  },
});
