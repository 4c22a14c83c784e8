// Presence penalty, as OpenAI's interface and llama.cpp define it: once for a token that was said at all.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { WindowCounts } from '../../core/generation/window-counts.ts';

/** logit -= penalty for ids in the window, prompt included. */
export const presencePenalty = defineSampler({
  name: 'presence-penalty',
  description: 'lowers the logits of tokens that stand in the newest lastN (default all, prompt included)',
  options: z.strictObject({ penalty: z.number().default(0.5), lastN: z.int().positive().optional() }),
  create({ penalty, lastN }) {
    const window = new WindowCounts();
    return {
      kind: 'transform',
      apply(logits, { ids }) {
        if (penalty === 0) return;
        const { size, distinct } = window.count(ids, lastN, logits.length);
        for (let i = 0; i < size; i++) logits[distinct[i]] -= penalty;
      },
    };
  },
});
