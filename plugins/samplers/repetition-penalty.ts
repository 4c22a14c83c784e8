// Repetition penalty (CTRL, Keskar et al. 2019): what has been said becomes less likely, once however often it was said.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { WindowCounts } from '../../core/generation/window-counts.ts';

/** Logits of ids in the window, prompt included: positive ones divided by the penalty, others multiplied. */
export const repetitionPenalty = defineSampler({
  name: 'repetition-penalty',
  description: 'makes tokens of the newest lastN (default all, prompt included) less likely; 1 changes nothing',
  options: z.strictObject({ penalty: z.number().positive().default(1.1), lastN: z.int().positive().optional() }),
  create({ penalty, lastN }) {
    const window = new WindowCounts();
    return {
      kind: 'transform',
      apply(logits, { ids }) {
        if (penalty === 1) return;
        const { size, distinct } = window.count(ids, lastN, logits.length);
        for (let i = 0; i < size; i++) {
          const id = distinct[i];
          logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
        }
      },
    };
  },
});
