// Linear warm-up, then a power of a straight line: η(t) = min + (1 - p)^power·(peak - min).

import { z } from 'zod';
import { defineScheduler } from '../../core/plugin.ts';
import { aboveFloor } from './decays.ts';
import { floor, warmupOf, warmupOptions, withWarmup } from './warm-up.ts';

/** The floor is reached at the last step. */
export const polynomial = defineScheduler({
  name: 'polynomial',
  description: 'linear warm-up, then a power of a straight line down to a floor',
  options: z.strictObject({
    ...warmupOptions,
    floor,
    power: z.number().positive().default(2).describe('of the straight line'),
  }),
  create: (options, context) =>
    withWarmup(warmupOf('polynomial', options, context.totalSteps), options, context, (progress) =>
      aboveFloor(options.floor, (1 - progress) ** options.power),
    ),
});
