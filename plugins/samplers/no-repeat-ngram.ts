// No n-gram twice (Paulus, Xiong & Socher 2017), as transformers has it.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';

/** Removes tokens that would complete a run of `size` tokens which the text, prompt included, already has. */
export const noRepeatNgram = defineSampler({
  name: 'no-repeat-ngram',
  description: 'removes tokens that would repeat a run of `size` tokens; 0 removes none',
  options: z.strictObject({ size: z.int().nonnegative().default(3) }),
  create: ({ size }) => ({
    kind: 'transform',
    apply(logits, { ids }) {
      if (size === 0) return;
      const tail = ids.length - (size - 1);
      for (let start = 0; start + size <= ids.length; start++) {
        let same = 0;
        while (same < size - 1 && ids[start + same] === ids[tail + same]) same++;
        const next = ids[start + size - 1];
        if (same === size - 1 && next < logits.length) logits[next] = -Infinity;
      }
    },
  }),
});
