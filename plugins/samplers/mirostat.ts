// Mirostat 2 (Basu et al. 2021): a cut-off steered so that the surprise of the text stays near a target.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { Candidates } from '../../core/generation/candidates.ts';

/**
 * Removes tokens of more than μ bits of surprise, draws from the rest, and moves μ by eta for every bit that the token
 * drawn lies beside tau. μ begins at 2·tau and belongs to the sequence.
 */
export const mirostat = defineSampler({
  name: 'mirostat',
  description: 'draws a token while holding the surprise of the text near tau bits (mirostat 2)',
  options: z.strictObject({ tau: z.number().positive().default(5), eta: z.number().positive().default(0.1) }),
  create({ tau, eta }) {
    const candidates = new Candidates();
    let mu = 2 * tau;
    return {
      kind: 'pick',
      pick(logits, { random, step }) {
        const { count, ids, best, probabilities } = candidates.gather(logits).softmax();
        const lowest = Math.min(2 ** -mu, probabilities[best]);
        let sum = 0;
        for (let i = 0; i < count; i++) {
          if (probabilities[i] < lowest) probabilities[i] = 0;
          sum += probabilities[i];
        }
        const drawn = candidates.draw(random.uniform(step, 0), sum);
        mu -= eta * (-Math.log2(probabilities[drawn] / sum) - tau);
        return ids[drawn];
      },
    };
  },
});
