// Linear warm-up, then falling with the root of the step (Vaswani et al. 2017): η(t) = min + √(w/t)·(peak - min). It does not
// look at the end, so a run can be made longer without changing what was.

import { z } from 'zod';
import { defineScheduler } from '../../core/plugin.ts';
import { aboveFloor } from './decays.ts';
import { warmupOf, warmupOptions, withWarmup, zeroFloor } from './warm-up.ts';

/** Without a warm-up the rate falls from the first step on, as with one of a single step. */
export const inverseSqrt = defineScheduler({
  name: 'inverse-sqrt',
  description: 'linear warm-up, then falling with the root of the step; blind to the end of the run',
  options: z.strictObject({ ...warmupOptions, floor: zeroFloor }),
  create(options, context) {
    const warmup = warmupOf('inverse-sqrt', options, context.totalSteps);
    const first = Math.max(1, warmup);
    return withWarmup(warmup, options, context, (_, t) =>
      aboveFloor(options.floor, Math.sqrt(first / Math.max(first, t))),
    );
  },
});
