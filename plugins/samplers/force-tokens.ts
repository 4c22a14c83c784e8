// Tokens that are to be chosen, whatever the model thinks: the beginning of an answer, or its end.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { checkIds, keepOnly } from '../../core/generation/logits.ts';
import { idList } from '../../core/generation/token-lists.ts';

/** Leaves only ids[i] for the generated token number at + i, counted from 0, even where it was removed before. */
export const forceTokens = defineSampler({
  name: 'force-tokens',
  description: 'forces tokens: ids=5|6 are the first ones generated, or those from number `at` on',
  options: z.strictObject({ ids: idList, at: z.int().nonnegative().default(0) }),
  create: ({ ids: forced, at }) => ({
    kind: 'transform',
    apply(logits, { step }) {
      checkIds('force-tokens', forced, logits.length);
      if (step < at || step >= at + forced.length) return;
      const id = forced[step - at];
      keepOnly(logits, id);
      if (logits[id] === -Infinity) logits[id] = 0;
    },
  }),
});
