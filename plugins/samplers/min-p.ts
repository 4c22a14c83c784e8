// Min-p (Nguyen et al. 2024): tokens at least a share p as likely as the most likely one.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { keepFrom, largestLogit } from '../../core/generation/logits.ts';

/** Removes logits below max + ln p; 0 keeps all. */
export const minP = defineSampler({
  name: 'min-p',
  description: 'keeps tokens at least p times as likely as the most likely one; 0 keeps all',
  options: z.strictObject({ p: z.number().min(0).max(1).default(0.05) }),
  create: ({ p }) => ({
    kind: 'transform',
    apply(logits) {
      if (p > 0) keepFrom(logits, logits[largestLogit(logits)] + Math.log(p));
    },
  }),
});
