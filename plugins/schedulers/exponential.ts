// Linear warm-up, then the same factor at each step: η(t) = peak·gamma^(t - w).

import { z } from 'zod';
import { GemmoeError } from '../../core/errors.ts';
import { defineScheduler } from '../../core/plugin.ts';
import { warmupOf, warmupOptions, withWarmup } from './warm-up.ts';

/** Share of the peak that is left at the last step where neither `gamma` nor `floor` is given. */
const DEFAULT_FLOOR = 0.01;

/** Either a factor, or the share of the peak that the last step shall have. */
export const exponential = defineScheduler({
  name: 'exponential',
  description: 'linear warm-up, then a constant factor a step: gamma, or what reaches the floor (0.01) at the end',
  options: z.strictObject({
    ...warmupOptions,
    floor: z.number().gt(0).max(1).optional().describe('rate at the end, as a share of the peak: 0.01'),
    gamma: z.number().gt(0).max(1).optional().describe('in place of floor: factor of each step'),
  }),
  create(options, context) {
    const { gamma, floor } = options;
    if (gamma !== undefined && floor !== undefined) {
      throw new GemmoeError('usage', 'exponential: gamma and floor are both given', 'give one: each decides the other');
    }
    const warmup = warmupOf('exponential', options, context.totalSteps);
    return withWarmup(warmup, options, context, (progress, t) =>
      gamma === undefined ? (floor ?? DEFAULT_FLOOR) ** progress : gamma ** (t - warmup),
    );
  },
});
