// Stochastic gradient descent with momentum, dampening and Nesterov's variant, as PyTorch defines them.

import { z } from 'zod';
import { GemmoeError } from '../../core/errors.ts';
import { defineOptimizer } from '../../core/plugin.ts';
import { newFloats } from '../../core/tensor/dtype.ts';
import { groupOptions, parameterRuns } from '../../core/training/parameter-groups.ts';

const options = z.strictObject({
  momentum: z.number().min(0).lt(1).default(0).describe('memory of the velocity'),
  dampening: z.number().min(0).lt(1).default(0).describe('share of each gradient that the velocity leaves out'),
  nesterov: z.boolean().default(false).describe('step along the velocity that comes next'),
  weightDecay: z.number().nonnegative().default(0).describe('share of a weight that is added to its gradient'),
  ...groupOptions,
});

/** No state without momentum. */
export const sgd = defineOptimizer({
  name: 'sgd',
  description: 'stochastic gradient descent, with momentum or without',
  options,
  // momentum μ makes a step 1/(1 - μ) times as long; half of that, on a scale of powers, has proved right
  relativeRate: ({ momentum }) => 100 * Math.sqrt(1 - momentum),
  create(settings, { store, kernels }) {
    const { momentum, dampening, nesterov } = settings;
    if ((nesterov || dampening > 0) && (momentum === 0 || (nesterov && dampening > 0))) {
      throw new GemmoeError(
        'usage',
        `sgd: nesterov=${nesterov} and dampening=${dampening} do not go with momentum=${momentum}`,
        'both need a momentum above 0, and Nesterov no dampening',
      );
    }
    const runs = parameterRuns({ name: 'sgd', options }, settings, [], store);
    const velocity = momentum > 0 ? newFloats(store.dtype, store.total) : null;
    return {
      step({ step, learningRate, gradientScale, momentum: scheduled }) {
        const { data, gradient } = store;
        // the velocity is kept as b/(1 - d): b = μb + (1 - d)g is then the undampened v = μv + g
        const kept = step === 1 ? 1 : 1 - dampening;
        for (const { offset, count, settings: group } of runs) {
          kernels.sgd(
            data,
            gradient,
            velocity,
            offset,
            count,
            learningRate * group.rate * kept,
            scheduled ?? momentum,
            nesterov,
            group.weightDecay,
            step,
            gradientScale,
          );
        }
        if (velocity && step === 1 && dampening > 0) {
          for (let i = 0; i < velocity.length; i++) velocity[i] /= 1 - dampening;
        }
      },
      state: () => new Map(velocity ? [['velocity', { shape: [store.total], data: velocity }]] : []),
    };
  },
});
