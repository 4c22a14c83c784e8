// Exponential moving average of the weights (Polyak & Juditsky 1992), around any optimizer: it is evaluated and saved in place of
// the last weights, which training goes on with.

import type { Optimizer, OptimizerStep } from '../plugin.ts';
import type { ParameterStore } from '../model/parameters.ts';
import { newFloats } from '../tensor/dtype.ts';

/** Steps that a young average looks back on: about a tenth of those taken. */
const YOUNG = 10;

/**
 * d of average = d·average + (1-d)·weights at step 1, 2, …: rises from 0 to `decay`, so that the weights that training began with
 * do not linger in the average of a short run.
 */
export function emaDecay(decay: number, step: number): number {
  return Math.min(decay, (step - 1) / (step - 1 + YOUNG));
}

/**
 * The optimizer, averaging what it does. `training(false)` exchanges the weights for their average and `training(true)` back; an
 * optimizer that has such a switch of its own is switched inside of that.
 */
export function withEma(optimizer: Optimizer, store: ParameterStore, decay: number): Optimizer {
  /** The average, or the training weights while the model holds the average: always so in a checkpoint. */
  const other = newFloats(store.dtype, store.total);
  other.set(store.data); // before the first step they are the same
  let isTraining = true;

  function exchange(): void {
    const { data } = store;
    for (let i = 0; i < data.length; i++) {
      const kept = data[i];
      data[i] = other[i];
      other[i] = kept;
    }
  }

  return {
    step(step: OptimizerStep) {
      optimizer.step(step);
      const { data } = store;
      const gain = 1 - emaDecay(decay, step.step);
      for (let i = 0; i < data.length; i++) other[i] += gain * (data[i] - other[i]);
    },
    state: () => new Map([...optimizer.state(), ['ema.training_weights', { shape: [other.length], data: other }]]),
    scalars: () => optimizer.scalars?.() ?? {},
    restoreScalars(scalars) {
      optimizer.restoreScalars?.(scalars);
      isTraining = false; // checkpoints hold the weights to evaluate
    },
    training(on) {
      if (on === isTraining) return;
      isTraining = on;
      if (on) exchange();
      optimizer.training?.(on);
      if (!on) exchange();
    },
  };
}
