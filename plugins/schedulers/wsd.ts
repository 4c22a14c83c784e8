// Warm-up, stable, decay (Hu et al. 2024): the peak is held, and only the last part of the run goes down. A checkpoint of the
// stable part can be continued, or brought down, at any time.

import { z } from 'zod';
import { GemmoeError } from '../../core/errors.ts';
import { defineScheduler } from '../../core/plugin.ts';
import { aboveFloor, DECAY_SHAPES, decayShape } from './decays.ts';
import { warmupOf, warmupOptions, withWarmup, zeroFloor } from './warm-up.ts';

/** With D = decayFraction·T steps of decay: p = (t - (T - D))/D. The floor is reached at the last step. */
export const wsd = defineScheduler({
  name: 'wsd',
  description: 'warm-up, stable, decay: the peak held, then down over the last part of the run',
  options: z.strictObject({
    ...warmupOptions,
    floor: zeroFloor,
    decayFraction: z.number().min(0).max(1).default(0.2).describe('share of the run that goes down'),
    shape: z.enum(DECAY_SHAPES).default('linear').describe('how it goes down'),
  }),
  create(options, context) {
    const { totalSteps } = context;
    const warmup = warmupOf('wsd', options, totalSteps);
    const decaySteps = Math.round(options.decayFraction * totalSteps);
    if (warmup + decaySteps > totalSteps) {
      throw new GemmoeError(
        'usage',
        `wsd: ${warmup} steps of warm-up and ${decaySteps} of decay are more than the run's ${totalSteps}`,
        'shorten warmupSteps or lower decayFraction',
      );
    }
    return withWarmup(warmup, options, context, (_, t) => {
      const decayed = t - (totalSteps - decaySteps);
      return decayed <= 0 ? 1 : aboveFloor(options.floor, decayShape(options.shape, Math.min(1, decayed / decaySteps)));
    });
  },
});
