// Stochastic gradient descent with momentum and Nesterov's variant, as PyTorch defines them.

import { z } from 'zod';
import { defineOptimizer } from '../../core/plugin.ts';
import { newFloats } from '../../core/tensor/dtype.ts';

const options = z.strictObject({
  momentum: z.number().min(0).lt(1).default(0),
  nesterov: z.boolean().default(false),
  /** Added to the gradient (coupled), for every parameter. */
  weightDecay: z.number().nonnegative().default(0),
});

/** One update over all parameters; no state without momentum. */
export const sgd = defineOptimizer({
  name: 'sgd',
  description: 'stochastic gradient descent, with momentum or without',
  options,
  create({ momentum, nesterov, weightDecay }, { store, kernels }) {
    const velocity = momentum > 0 ? newFloats(store.dtype, store.total) : null;
    return {
      step({ step, learningRate, gradientScale }) {
        const { data, gradient, total } = store;
        kernels.sgd(
          data,
          gradient,
          velocity,
          0,
          total,
          learningRate,
          momentum,
          nesterov,
          weightDecay,
          step,
          gradientScale,
        );
      },
      state: () => new Map(velocity ? [['velocity', { shape: [store.total], data: velocity }]] : []),
    };
  },
});
