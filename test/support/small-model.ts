// A model small enough for finite differences through all of its parameters, in float64.

import { expect } from 'vitest';
import { IGNORE_INDEX } from '../../core/kernels.ts';
import type { ModelConfig } from '../../core/model/config.ts';
import { Transformer } from '../../core/model/transformer.ts';
import { Random } from '../../core/random.ts';
import { referenceKernels } from './kernels.ts';

const kernels = referenceKernels();

export const SMALL: ModelConfig = {
  vocabSize: 11,
  hiddenSize: 6,
  numLayers: 2,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 4,
  numExperts: 4,
  topK: 2,
  expertWidth: 5,
  maxSequenceLength: 16,
  ropeTheta: 100,
  ropeAlpha: 2,
  normEps: 1e-5,
  tieEmbeddings: false,
  auxLossCoefficient: 0.1,
  auxLossReduction: 'perLayer',
};

/** A model in float64 with weights large enough that every path matters. */
export function modelOf(config: ModelConfig): Transformer {
  const model = new Transformer(config, kernels, { dtype: 'f64' });
  new Random(7, 'test').fillNormal(model.parameters.data, 0, 0.4, 0);
  return model;
}

export const BATCH = 2;
export const LENGTH = 5;

export function exampleBatch(vocabSize: number): { ids: Int32Array; targets: Int32Array } {
  const random = new Random(3, 'batch');
  const draw = (step: number) =>
    Int32Array.from({ length: BATCH * LENGTH }, (_, i) => random.below(vocabSize, step, i));
  const targets = draw(1);
  targets[3] = IGNORE_INDEX;
  return { ids: draw(0), targets };
}

function lossOf(model: Transformer, ids: Int32Array, targets: Int32Array): number {
  const { lossSum, tokens, auxLoss } = model.evaluate(ids, targets, BATCH, LENGTH);
  return lossSum / tokens + model.config.auxLossCoefficient * (auxLoss ?? 0);
}

/** Checks the gradient of every parameter by central differences; `mayVanish` names those whose gradient may be 0. */
export function expectModelGradients(config: ModelConfig, mayVanish: (name: string) => boolean = () => false): void {
  const model = modelOf(config);
  const { ids, targets } = exampleBatch(config.vocabSize);
  model.forwardBackward(ids, targets, BATCH, LENGTH);
  const { data, gradient } = model.parameters;
  const step = 1e-5;
  for (const { name, offset, data: view } of model.parameters.parameters) {
    let worst = 0;
    let norm = 0;
    for (let i = offset; i < offset + view.length; i++) {
      const kept = data[i];
      data[i] = kept + step;
      const above = lossOf(model, ids, targets);
      data[i] = kept - step;
      const below = lossOf(model, ids, targets);
      data[i] = kept;
      worst = Math.max(worst, Math.abs((above - below) / (2 * step) - gradient[i]));
      norm = Math.max(norm, Math.abs(gradient[i]));
    }
    expect(norm, `${name} has a gradient`).toBeGreaterThanOrEqual(mayVanish(name) ? 0 : 1e-6);
    expect(worst / Math.max(norm, 1e-3), name).toBeLessThan(1e-6);
  }
}
