// Lion (Chen et al. 2023): steps of one size in the direction of a sign.

import { z } from 'zod';
import { defineOptimizer } from '../../core/plugin.ts';
import { newFloats } from '../../core/tensor/dtype.ts';
import { groupOptions, parameterRuns } from '../../core/training/parameter-groups.ts';

const options = z.strictObject({
  beta1: z.number().min(0).lt(1).default(0.9).describe('share of the moment in the step'),
  beta2: z.number().min(0).lt(1).default(0.99).describe('memory of the moment'),
  weightDecay: z.number().nonnegative().default(0.5).describe('as AdamW’s, and larger as the learning rate is smaller'),
  ...groupOptions,
});

/** One moment of every parameter, decoupled decay. */
export const lion = defineOptimizer({
  name: 'lion',
  description: 'steps by the sign of a moving average: half the state of AdamW',
  options,
  relativeRate: () => 0.3,
  create(settings, { store, kernels }) {
    const runs = parameterRuns({ name: 'lion', options }, settings, ['beta1', 'beta2'], store);
    const m = newFloats(store.dtype, store.total);
    return {
      step({ learningRate, gradientScale, momentum }) {
        const { data, gradient } = store;
        for (const { offset, count, settings: group } of runs) {
          kernels.lion(
            data,
            gradient,
            m,
            offset,
            count,
            learningRate * group.rate,
            momentum ?? group.beta1,
            group.beta2,
            group.weightDecay,
            gradientScale,
          );
        }
      },
      state: () => new Map([['m', { shape: [store.total], data: m }]]),
    };
  },
});
