// After the first step of a shape, training and decoding make no typed array, not even a view.

import { afterEach, expect, test } from 'vitest';
import { KvCache } from '../core/model/kv-cache.ts';
import { PRESETS } from '../core/model/presets.ts';
import { Transformer } from '../core/model/transformer.ts';
import type { Optimizer } from '../core/plugin.ts';
import { parseOptions } from '../core/config.ts';
import { Trainer, type TrainerOptions } from '../core/training/trainer.ts';
import { builtinPlugins } from '../plugins/index.ts';
import { referenceKernels } from './support/kernels.ts';

const NAMES = ['Float32Array', 'Float64Array', 'Int32Array', 'Uint8Array', 'Uint16Array', 'Uint32Array'] as const;
const originals = NAMES.map((name) => [name, globalThis[name]] as const);
const typedArray = Object.getPrototypeOf(Int32Array.prototype) as { subarray: unknown; slice: unknown };
const { subarray, slice } = typedArray;

afterEach(() => {
  Object.assign(globalThis, Object.fromEntries(originals));
  Object.assign(typedArray, { subarray, slice });
});

/** Typed arrays that `work` makes, by constructor, `subarray` or `slice`. */
function arraysMadeBy(work: () => void): number {
  let made = 0;
  for (const [name, original] of originals) {
    const counting: typeof original = new Proxy(original, {
      construct(target, args, newTarget): object {
        made++;
        return Reflect.construct(target, args, newTarget === counting ? target : newTarget) as object;
      },
    });
    Object.assign(globalThis, { [name]: counting });
  }
  for (const [name, original] of [
    ['subarray', subarray],
    ['slice', slice],
  ] as const) {
    typedArray[name] = function counted(this: unknown, ...args: unknown[]) {
      made++;
      return (original as (...args: unknown[]) => unknown).apply(this, args);
    };
  }
  work();
  Object.assign(globalThis, Object.fromEntries(originals));
  Object.assign(typedArray, { subarray, slice });
  return made;
}

const [B, T] = [2, 8];

function makeModel(): Transformer {
  const model = new Transformer(PRESETS['tiny'].config, referenceKernels());
  model.initialise(1);
  return model;
}

test('the count sees what is made', () => {
  expect(arraysMadeBy(() => void new Float32Array(4).subarray(1))).toBe(2);
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
  expect(arraysMadeBy(step)).toBe(0);
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
  expect(arraysMadeBy(step)).toBe(0);
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
  expect(arraysMadeBy(step)).toBe(0);
});
