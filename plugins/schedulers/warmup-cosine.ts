// Linear warm-up, then half a cosine from the peak to a floor (Loshchilov & Hutter 2017):
// η(t) = min + ½·(1 + cos(π·p))·(peak - min), p = (t - w)/(T - w).

import { z } from 'zod';
import { defineScheduler } from '../../core/plugin.ts';
import { aboveFloor, decayShape } from './decays.ts';
import { floor, warmupOf, warmupOptions, withWarmup } from './warm-up.ts';

/** The floor is reached at the last step. */
export const warmupCosine = defineScheduler({
  name: 'warmup-cosine',
  description: 'linear warm-up, then a cosine down to a floor',
  options: z.strictObject({ ...warmupOptions, floor }),
  create: (options, context) =>
    withWarmup(warmupOf('warmup-cosine', options, context.totalSteps), options, context, (progress) =>
      aboveFloor(options.floor, decayShape('cosine', progress)),
    ),
});
