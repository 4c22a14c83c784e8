// Tokens that are not to be chosen: always, or while the text is young.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { checkIds } from '../../core/generation/logits.ts';
import { idList } from '../../core/generation/token-lists.ts';

/** Removes `ids` from every token; with `steps` only from the first ones generated, with `length` while text and prompt are shorter. */
export const banTokens = defineSampler({
  name: 'ban-tokens',
  description: 'removes tokens: ids=5|6, always, for the first `steps` tokens, or below a `length` of prompt and text',
  options: z.strictObject({
    ids: idList,
    steps: z.int().nonnegative().optional(),
    length: z.int().nonnegative().optional(),
  }),
  create: ({ ids: banned, steps = Infinity, length = Infinity }) => ({
    kind: 'transform',
    apply(logits, { ids, step }) {
      checkIds('ban-tokens', banned, logits.length);
      if (step >= steps || ids.length >= length) return;
      for (const id of banned) logits[id] = -Infinity;
    },
  }),
});
