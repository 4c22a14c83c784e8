// After the first step of a shape, training and decoding make no typed array, not even a view.

import { expect, test } from 'vitest';
import { KvCache } from '../core/model/kv-cache.ts';
import { PRESETS } from '../core/model/presets.ts';
import { Transformer } from '../core/model/transformer.ts';
import type { Optimizer } from '../core/plugin.ts';
import { parseOptions } from '../core/config.ts';
import { Trainer, type TrainerOptions } from '../core/training/trainer.ts';
import { builtinPlugins } from '../plugins/index.ts';
import { referenceKernels } from './support/kernels.ts';
import { typedArraysMadeBy } from './support/typed-arrays.ts';

const [B, T] = [2, 8];

function makeModel(): Transformer {
  const model = new Transformer(PRESETS['tiny'].config, referenceKernels());
  model.initialise(1);
  return model;
}

test('the count sees what is made', () => {
  expect(typedArraysMadeBy(() => void new Float32Array(4).subarray(1))).toBe(2);
});

test.each(builtinPlugins.optimizers ?? [])('a training step with $name', (contribution) => {
  const model = makeModel();
  const context = { store: model.parameters, kernels: model.kernels };
  const optimizer = contribution.create(parseOptions(contribution, {}), context);
  const trainer = new Trainer(model, optimizer, () => 1e-3, { clipNorm: 1 });
  const ids = Int32Array.from({ length: B * T }, (_, i) => i);
  const step = () => void trainer.step(ids, ids, B, T);
  step();
  step(); // experts may get more rows than in the first
  expect(typedArraysMadeBy(step)).toBe(0);
});

test.each<[string, TrainerOptions]>([
  [
    'two micro-batches, checkpointed, in bfloat16',
    { accumulate: 2, checkpointEvery: 1, precision: { format: 'bf16' } },
  ],
  ['all that routing can do', { routing: { zLoss: 1e-3, jitter: 0.1, capacityFactor: 1 }, biasRate: 1e-3 }],
])('a training step of %s', (_, options) => {
  const model = new Transformer({ ...PRESETS['tiny'].config, selectionBias: true }, referenceKernels());
  model.initialise(1);
  const optimizer: Optimizer = { step: () => void model.parameters.gradient.fill(0), state: () => new Map() };
  const trainer = new Trainer(model, optimizer, () => 1e-3, options);
  const ids = Int32Array.from({ length: B * T }, (__, i) => i);
  const step = () => void trainer.step(ids, ids, B / (options.accumulate ?? 1), T);
  step();
  step();
  expect(typedArraysMadeBy(step)).toBe(0);
});

test('a decoding step', () => {
  const model = makeModel();
  const cache = new KvCache(model.config, 1, 64);
  const id = Int32Array.of(3);
  model.forward(
    Int32Array.from({ length: 8 }, (_, i) => i),
    1,
    8,
    { cache, logits: 'last' },
  );
  const step = () => void model.forward(id, 1, 1, { cache, logits: 'last' });
  step();
  expect(typedArraysMadeBy(step)).toBe(0);
});
