// The norm that a model's layers have.

import type { ModelConfig } from './config.ts';
import { LayerNorm } from './layer-norm.ts';
import type { Norm } from './norm.ts';
import type { ParameterStore } from './parameters.ts';
import { RmsNorm } from './rms-norm.ts';

/** A norm over the hidden size. */
export function makeNorm(store: ParameterStore, name: string, { hiddenSize, normEps, norm }: ModelConfig): Norm {
  const Kind = norm === 'layer' ? LayerNorm : RmsNorm;
  return new Kind(store, name, hiddenSize, normEps);
}
