// AdamW (Loshchilov & Hutter 2019), fused over runs of parameters with equal settings.

import { z } from 'zod';
import { defineOptimizer } from '../../core/plugin.ts';
import { newFloats } from '../../core/tensor/dtype.ts';
import { groupOptions, parameterRuns } from '../../core/training/parameter-groups.ts';

const options = z.strictObject({
  beta1: z.number().min(0).lt(1).default(0.9).describe('memory of the first moment'),
  beta2: z.number().min(0).lt(1).default(0.95).describe('memory of the second moment'),
  eps: z.number().positive().default(1e-8).describe('added to the root of the second moment'),
  weightDecay: z.number().nonnegative().default(0.1).describe('share of a weight that a step of rate 1 takes away'),
  ...groupOptions,
});

/** Moments of every parameter, bias correction, decoupled decay. */
export const adamw = defineOptimizer({
  name: 'adamw',
  description: 'Adam with decoupled weight decay',
  options,
  create(settings, { store, kernels }) {
    const runs = parameterRuns({ name: 'adamw', options }, settings, ['beta1', 'beta2', 'eps'], store);
    const m = newFloats(store.dtype, store.total);
    const v = newFloats(store.dtype, store.total);
    return {
      step({ step, learningRate, gradientScale, momentum }) {
        const { data, gradient } = store;
        for (const { offset, count, settings: group } of runs) {
          kernels.adamw(
            data,
            gradient,
            m,
            v,
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
      state: () =>
        new Map([
          ['m', { shape: [store.total], data: m }],
          ['v', { shape: [store.total], data: v }],
        ]),
    };
  },
});
