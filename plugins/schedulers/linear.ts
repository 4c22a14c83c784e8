// Linear warm-up, then a straight line from the peak to a floor.

import { z } from 'zod';
import { defineScheduler } from '../../core/plugin.ts';
import { defaultWarmup, floor, warmupSteps, withWarmup } from './warm-up.ts';

/** The floor is reached at the last step. */
export const linear = defineScheduler({
  name: 'linear',
  description: 'linear warm-up, then a straight line down to a floor',
  options: z.strictObject({ warmupSteps, floor }),
  create(options, context) {
    const { learningRate: peak, totalSteps } = context;
    const lowest = options.floor * peak;
    const warmup = defaultWarmup(options.warmupSteps, totalSteps);
    return withWarmup('linear', warmup, context, (progress) => peak - progress * (peak - lowest));
  },
});
