// An optimizer that moves adapters in place of the weights.

import type { LoraAdapter } from '../model/lora.ts';
import type { ParameterStore } from '../model/parameters.ts';
import type { Optimizer } from '../plugin.ts';

/**
 * `optimizer`, made for the adapter's store, around a model: its gradients are turned into the adapter's, and what the optimizer
 * did is merged into the weights. The state holds A, B and the matrices before the first merge, so that a run that goes on has
 * the same bits.
 */
export function withLora(optimizer: Optimizer, adapter: LoraAdapter, store: ParameterStore): Optimizer {
  return {
    gradients: () => adapter.gradients(),
    step(step) {
      optimizer.step(step);
      store.gradient.fill(0);
      adapter.merge();
    },
    state() {
      const { base } = adapter;
      const { data } = adapter.store;
      return new Map([
        ...optimizer.state(),
        ['lora.parameters', { shape: [data.length], data }],
        ['lora.base', { shape: [base.length], data: base }],
      ]);
    },
    scalars: () => optimizer.scalars?.() ?? {},
    restoreScalars(scalars) {
      optimizer.restoreScalars?.(scalars);
      adapter.merge();
    },
    training(on) {
      if (!optimizer.training) return;
      optimizer.training(on);
      adapter.merge();
    },
  };
}
