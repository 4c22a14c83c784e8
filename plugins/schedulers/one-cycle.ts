// One cycle (Smith & Topin 2018) as torch.optim.lr_scheduler.OneCycleLR in two phases: from peak/div up to the peak, then down
// to peak/div/finalDiv, while the momentum goes the other way.

import { z } from 'zod';
import { GemmoeError } from '../../core/errors.ts';
import { defineScheduler } from '../../core/plugin.ts';
import { decayShape } from './decays.ts';

const momentum = z.number().min(0).lt(1);

/** Its first part is the warm-up: pctStart of the run. */
export const oneCycle = defineScheduler({
  name: 'one-cycle',
  description:
    'up from peak/div over pctStart of the run, then down to almost nothing; the momentum goes the other way',
  options: z.strictObject({
    pctStart: z.number().gt(0).lt(1).default(0.3).describe('share of the run that goes up'),
    div: z.number().positive().default(25).describe('the first rate is peak/div'),
    finalDiv: z.number().positive().default(1e4).describe('the last rate is peak/div/finalDiv'),
    shape: z.enum(['cosine', 'linear']).default('cosine').describe('how it goes up and down'),
    cycleMomentum: z.boolean().default(true).describe('move the momentum the other way'),
    baseMomentum: momentum.default(0.85).describe('where the rate is highest'),
    maxMomentum: momentum.default(0.95).describe('where the rate is lowest'),
  }),
  create(options, { learningRate: peak, totalSteps }) {
    const { pctStart, div, finalDiv, shape, cycleMomentum, baseMomentum, maxMomentum } = options;
    if (baseMomentum > maxMomentum) {
      throw new GemmoeError(
        'usage',
        `one-cycle: baseMomentum is ${baseMomentum}, above maxMomentum of ${maxMomentum}`,
        'exchange them: the momentum is lowest where the rate is highest',
      );
    }
    // PyTorch counts from 0, and its phases end at steps that need not be whole
    const top = pctStart * totalSteps - 1;
    const end = totalSteps - 1;
    const between = (from: number, to: number, progress: number) =>
      to + (from - to) * decayShape(shape, Math.min(1, progress));
    const cycle = (step: number, first: number, middle: number, last: number) => {
      const t = step - 1;
      if (t <= top) return top > 0 ? between(first, middle, t / top) : middle;
      return between(middle, last, end > top ? (t - top) / (end - top) : 1);
    };
    const rateOf = (step: number) => cycle(step, peak / div, peak, peak / div / finalDiv);
    if (!cycleMomentum) return rateOf;
    return Object.assign(rateOf, {
      momentum: (step: number) => cycle(step, maxMomentum, baseMomentum, maxMomentum),
    });
  },
});
