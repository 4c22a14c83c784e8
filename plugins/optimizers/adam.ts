// Adam (Kingma & Ba 2015) as PyTorch defines it: the decay is added to the gradient; with AMSGrad (Reddi et al. 2018) the
// second moment never falls.

import { z } from 'zod';
import { defineOptimizer, type OptimizerState } from '../../core/plugin.ts';
import { newFloats } from '../../core/tensor/dtype.ts';
import { groupOptions, parameterRuns } from '../../core/training/parameter-groups.ts';

const options = z.strictObject({
  beta1: z.number().min(0).lt(1).default(0.9).describe('memory of the first moment'),
  beta2: z.number().min(0).lt(1).default(0.999).describe('memory of the second moment'),
  eps: z.number().positive().default(1e-8).describe('added to the root of the second moment'),
  amsgrad: z.boolean().default(false).describe('divide by the largest second moment so far'),
  weightDecay: z.number().nonnegative().default(0).describe('share of a weight that is added to its gradient'),
  ...groupOptions,
});

/** Moments of every parameter, bias correction, coupled decay. */
export const adam = defineOptimizer({
  name: 'adam',
  description: 'Adam, the decay added to the gradient; with AMSGrad or without',
  options,
  create(settings, { store, kernels }) {
    const runs = parameterRuns({ name: 'adam', options }, settings, ['beta1', 'beta2', 'eps'], store);
    const shape = [store.total];
    const m = newFloats(store.dtype, store.total);
    const v = newFloats(store.dtype, store.total);
    const vMax = settings.amsgrad ? newFloats(store.dtype, store.total) : null;
    return {
      step({ step, learningRate, gradientScale, momentum }) {
        const { data, gradient } = store;
        for (const { offset, count, settings: group } of runs) {
          kernels.adam(
            data,
            gradient,
            m,
            v,
            vMax,
            offset,
            count,
            learningRate * group.rate,
            momentum ?? group.beta1,
            group.beta2,
            group.eps,
            group.weightDecay,
            step,
            gradientScale,
          );
        }
      },
      state(): OptimizerState {
        const moments = new Map([
          ['m', { shape, data: m }],
          ['v', { shape, data: v }],
        ]);
        if (vMax) moments.set('v_max', { shape, data: vMax });
        return moments;
      },
    };
  },
});
