// Temperature: logits / T; T below 1 sharpens, above 1 flattens, 0 leaves only the most likely token.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { divideLogits } from '../../core/generation/logits.ts';

/** Divides the logits. */
export const temperature = defineSampler({
  name: 'temperature',
  description: 'divides the logits; 0 is greedy',
  options: z.strictObject({ value: z.number().nonnegative().default(0.8) }),
  create: ({ value }) => ({ kind: 'transform', apply: (logits) => divideLogits(logits, value) }),
});
