// AdamW (Loshchilov & Hutter 2019), fused over runs of parameters that decay alike.

import { z } from 'zod';
import type { Parameter } from '../../core/model/parameters.ts';
import { defineOptimizer } from '../../core/plugin.ts';
import { newFloats } from '../../core/tensor/dtype.ts';
import { decayRuns } from './decay-runs.ts';

const options = z.strictObject({
  beta1: z.number().min(0).lt(1).default(0.9),
  beta2: z.number().min(0).lt(1).default(0.95),
  eps: z.number().positive().default(1e-8),
  weightDecay: z.number().nonnegative().default(0.1),
  /** `matrices` spares norms, biases and embeddings; `all` spares nothing. */
  decay: z.enum(['matrices', 'all']).default('matrices'),
});

/** Moments of every parameter, bias correction, decoupled decay. */
export const adamw = defineOptimizer({
  name: 'adamw',
  description: 'Adam with decoupled weight decay',
  options,
  create({ beta1, beta2, eps, weightDecay, decay }, { store, kernels }) {
    const m = newFloats(store.dtype, store.total);
    const v = newFloats(store.dtype, store.total);
    const decays = (parameter: Parameter) => decay === 'all' || isMatrix(parameter);
    const runs = decayRuns(store, decays);
    return {
      step({ step, learningRate, gradientScale }) {
        const { data, gradient } = store;
        for (const run of runs) {
          const rate = run.decays ? weightDecay : 0;
          kernels.adamw(
            data,
            gradient,
            m,
            v,
            run.offset,
            run.count,
            learningRate,
            beta1,
            beta2,
            eps,
            rate,
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

function isMatrix({ role }: Parameter): boolean {
  return role !== 'norm' && role !== 'bias' && role !== 'embedding';
}
