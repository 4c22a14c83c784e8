// Dynamic temperature, as llama.cpp has it: low where the model is sure, high where it is not.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { Candidates } from '../../core/generation/candidates.ts';
import { divideLogits } from '../../core/generation/logits.ts';

/** T = low + (high - low)·(H / ln n)^exponent for n tokens of entropy H, low and high being value ∓ range (not below 0). */
export const dynamicTemperature = defineSampler({
  name: 'dynamic-temperature',
  description: 'divides the logits by a temperature from value - range to value + range that grows with the entropy',
  options: z.strictObject({
    value: z.number().nonnegative().default(0.8),
    range: z.number().nonnegative().default(0.4),
    exponent: z.number().nonnegative().default(1),
  }),
  create({ value, range, exponent }) {
    const candidates = new Candidates();
    const low = Math.max(0, value - range);
    const high = value + range;
    return {
      kind: 'transform',
      apply(logits) {
        const entropy = candidates.gather(logits).softmax().entropy();
        if (candidates.count < 2) return;
        const share = Math.min(1, entropy / Math.log(candidates.count));
        divideLogits(logits, low + (high - low) * share ** exponent);
      },
    };
  },
});
