// Frequency penalty, as OpenAI's interface and llama.cpp define it: for every time that a token was said.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { WindowCounts } from '../../core/generation/window-counts.ts';

/** logit -= penalty · count in the window, prompt included. */
export const frequencyPenalty = defineSampler({
  name: 'frequency-penalty',
  description: 'lowers a logit for every time its token stands in the newest lastN (default all, prompt included)',
  options: z.strictObject({ penalty: z.number().default(0.5), lastN: z.int().positive().optional() }),
  create({ penalty, lastN }) {
    const window = new WindowCounts();
    return {
      kind: 'transform',
      apply(logits, { ids }) {
        if (penalty === 0) return;
        const { size, distinct, counts } = window.count(ids, lastN, logits.length);
        for (let i = 0; i < size; i++) logits[distinct[i]] -= penalty * counts[distinct[i]];
      },
    };
  },
});
