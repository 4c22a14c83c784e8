// Linear warm-up, then a straight line from the peak to a floor: η(t) = min + (1 - p)·(peak - min).

import { z } from 'zod';
import { defineScheduler } from '../../core/plugin.ts';
import { aboveFloor, decayShape } from './decays.ts';
import { floor, warmupOf, warmupOptions, withWarmup } from './warm-up.ts';

/** The floor is reached at the last step. */
export const linear = defineScheduler({
  name: 'linear',
  description: 'linear warm-up, then a straight line down to a floor',
  options: z.strictObject({ ...warmupOptions, floor }),
  create: (options, context) =>
    withWarmup(warmupOf('linear', options, context.totalSteps), options, context, (progress) =>
      aboveFloor(options.floor, decayShape('linear', progress)),
    ),
});
