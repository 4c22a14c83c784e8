// Schedule-free AdamW (Defazio et al. 2024): an average of the steps takes the place of a falling learning rate.

import { z } from 'zod';
import { defineOptimizer } from '../../core/plugin.ts';
import { newFloats } from '../../core/tensor/dtype.ts';
import { groupOptions, parameterRuns } from '../../core/training/parameter-groups.ts';

const options = z.strictObject({
  beta1: z
    .number()
    .gt(0)
    .lt(1)
    .default(0.9)
    .describe('where gradients are taken: between the steps (0) and their average (1)'),
  beta2: z.number().min(0).lt(1).default(0.95).describe('memory of the second moment'),
  eps: z.number().positive().default(1e-8).describe('added to the root of the second moment'),
  weightDecay: z.number().nonnegative().default(0).describe('share of a weight that a step of rate 1 takes away'),
  power: z.number().nonnegative().default(0).describe('step t weighs t^power in the average'),
  ...groupOptions,
});

/** Trains on y, evaluates and saves the average x; meant for a constant rate after a warm-up. */
export const scheduleFree = defineOptimizer({
  name: 'schedule-free',
  description: 'AdamW that averages its steps instead of lowering its rate: needs no length of the run',
  options,
  schedule: 'constant:warmupFraction=0.1',
  create(settings, { store, kernels }) {
    const runs = parameterRuns({ name: 'schedule-free', options }, settings, ['beta1', 'beta2', 'eps'], store);
    const z = newFloats(store.dtype, store.total);
    const x = newFloats(store.dtype, store.total);
    const v = newFloats(store.dtype, store.total);
    /** Sum of the weights of all steps: 0 before the first, when x and z are not yet those of the model. */
    let weightSum = 0;
    let largestRate = 0;
    return {
      step({ step, learningRate, gradientScale }) {
        const { data, gradient } = store;
        if (weightSum === 0) {
          z.set(data);
          x.set(data);
        }
        largestRate = Math.max(largestRate, learningRate);
        const weight = step ** settings.power * largestRate ** 2;
        weightSum += weight;
        const averaging = weightSum > 0 ? weight / weightSum : 0;
        for (const { offset, count, settings: group } of runs) {
          kernels.scheduleFree(
            data,
            gradient,
            z,
            x,
            v,
            offset,
            count,
            learningRate * group.rate,
            group.beta1,
            group.beta2,
            group.eps,
            group.weightDecay,
            averaging,
            step,
            gradientScale,
          );
        }
      },
      state: () =>
        new Map([
          ['z', { shape: [store.total], data: z }],
          ['x', { shape: [store.total], data: x }],
          ['v', { shape: [store.total], data: v }],
        ]),
      scalars: () => ({ weightSum, largestRate }),
      restoreScalars(scalars) {
        ({ weightSum, largestRate } = scalars);
      },
      training(on) {
        if (weightSum === 0) return;
        const { data } = store;
        if (!on) data.set(x);
        else {
          // as the step computed them, to the bit
          for (const { offset, count, settings: group } of runs) {
            for (let i = offset; i < offset + count; i++) data[i] = z[i] + group.beta1 * (x[i] - z[i]);
          }
        }
      },
    };
  },
});
