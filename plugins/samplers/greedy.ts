// Greedy: the most likely token.

import { defineSampler } from '../../core/plugin.ts';
import { largestLogit } from '../../core/generation/logits.ts';

/** Picks the largest logit; of equals, the lowest id. */
export const greedy = defineSampler({
  name: 'greedy',
  description: 'picks the most likely token',
  create: () => ({ kind: 'pick', pick: (logits) => largestLogit(logits) }),
});
