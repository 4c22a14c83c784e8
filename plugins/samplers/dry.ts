// DRY, "don't repeat yourself" (p-e-w 2024), as llama.cpp has it: a token that would prolong a repetition is made less likely,
// exponentially with the length of what is being repeated.

import { z } from 'zod';
import { SequenceBreakers } from '../../core/generation/sequence-breakers.ts';
import { RepeatedSuffixes } from '../../core/generation/repeated-suffixes.ts';
import { idList, textList } from '../../core/generation/token-lists.ts';
import { defineSampler } from '../../core/plugin.ts';

const LARGEST = 3.4e38;

/**
 * logit -= multiplier · base^(n - allowed) for a token that followed the newest n tokens elsewhere, n >= allowed. Breakers
 * end what counts as repeated, and a token that breaks is spared.
 */
export const dry = defineSampler({
  name: 'dry',
  description:
    'lowers the logits of tokens that would prolong a repetition, exponentially; breakers=\\n|: end a repetition',
  options: z.strictObject({
    multiplier: z.number().nonnegative().default(0.8),
    base: z.number().min(1).default(1.75),
    allowed: z.int().positive().default(2),
    lastN: z.int().positive().optional(),
    breakers: textList.optional(),
    breakerIds: idList.optional(),
  }),
  create({ multiplier, base, allowed, lastN, breakers: texts, breakerIds }, { tokenizer }) {
    const breakers = new SequenceBreakers(texts, breakerIds, tokenizer);
    const suffixes = new RepeatedSuffixes();
    // beyond it the penalty would be infinite
    const longest = base > 1 ? Math.log(LARGEST) / Math.log(base) : Infinity;
    return {
      kind: 'transform',
      apply(logits, { ids }) {
        if (multiplier === 0) return;
        const start = Math.max(0, ids.length - (lastN ?? ids.length));
        const limit = breakers.unbroken(ids, start);
        if (limit < allowed) return;
        const { size, followers, lengths } = suffixes.find(ids, start, limit, logits.length);
        for (let i = 0; i < size; i++) {
          const id = followers[i];
          if (lengths[id] < allowed || breakers.has(id)) continue;
          const penalty = multiplier * base ** Math.min(lengths[id] - allowed, longest);
          // less likely, but not removed
          if (logits[id] > -LARGEST) logits[id] = Math.max(-LARGEST, logits[id] - penalty);
        }
      },
    };
  },
});
