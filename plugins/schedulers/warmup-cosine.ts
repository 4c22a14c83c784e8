// Linear warm-up, then half a cosine from the peak to a floor (Loshchilov & Hutter 2017):
// η(t) = min + ½·(1 + cos(π·(t - w)/(T - w)))·(peak - min).

import { z } from 'zod';
import { defineScheduler } from '../../core/plugin.ts';
import { defaultWarmup, floor, warmupSteps, withWarmup } from './warm-up.ts';

/** The floor is reached at the last step. */
export const warmupCosine = defineScheduler({
  name: 'warmup-cosine',
  description: 'linear warm-up, then a cosine down to a floor',
  options: z.strictObject({ warmupSteps, floor }),
  create(options, context) {
    const { learningRate: peak, totalSteps } = context;
    const lowest = options.floor * peak;
    const warmup = defaultWarmup(options.warmupSteps, totalSteps);
    return withWarmup('warmup-cosine', warmup, context, (progress) => {
      return lowest + 0.5 * (1 + Math.cos(Math.PI * progress)) * (peak - lowest);
    });
  },
});
