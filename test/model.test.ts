// The model itself: its gradients by finite differences, its shapes, what it refuses.

import { afterAll, describe, expect, test } from 'vitest';
import { GemmoeError } from '../core/errors.ts';
import { bindKernels } from '../core/kernels.ts';
import { type ModelConfig, parseModelConfig, ropeBase } from '../core/model/config.ts';
import { activeParameters, totalParameters } from '../core/model/parameter-counts.ts';
import { KvCache } from '../core/model/kv-cache.ts';
import { PRESETS } from '../core/model/presets.ts';
import { Transformer } from '../core/model/transformer.ts';
import { backendNamed, referenceKernels, USABLE_BACKENDS } from './support/kernels.ts';
import { BATCH, exampleBatch, expectModelGradients, LENGTH, modelOf, SMALL } from './support/small-model.ts';

const kernels = referenceKernels();

describe('every gradient of the whole model equals central differences in float64', () => {
  test.each<[string, Partial<ModelConfig>]>([
    ['experts with grouped-query attention', {}],
    ['multi-query attention, tied embeddings', { numKvHeads: 1, tieEmbeddings: true }],
    ['all experts chosen', { topK: 4 }],
    ['one expert chosen', { topK: 1 }],
    ['a pooled auxiliary loss', { auxLossReduction: 'pooled' }],
    ['dense', { numExperts: 1, topK: 1 }],
  ])('%s', (_, changes) => {
    expectModelGradients({ ...SMALL, ...changes }, (name) => changes.topK === 1 && name.endsWith('router'));
  });
});

test('the gate has a gradient through the chosen weights alone', () => {
  const model = modelOf({ ...SMALL, auxLossCoefficient: 0 });
  const { ids, targets } = exampleBatch(SMALL.vocabSize);
  model.forwardBackward(ids, targets, BATCH, LENGTH);
  expect(Math.max(...model.parameters.get('layers.0.router').gradient)).toBeGreaterThan(1e-6);
});

test('gradients accumulate: two micro-batches give the gradient of both', () => {
  const { ids, targets } = exampleBatch(SMALL.vocabSize);
  const whole = modelOf({ ...SMALL, auxLossCoefficient: 0 });
  const { tokens } = whole.forwardBackward(ids, targets, BATCH, LENGTH);
  const parts = modelOf({ ...SMALL, auxLossCoefficient: 0 });
  for (let b = 0; b < BATCH; b++) {
    const range = [b * LENGTH, (b + 1) * LENGTH] as const;
    parts.forwardBackward(ids.slice(...range), targets.slice(...range), 1, LENGTH, { tokenScale: 1 / tokens });
  }
  for (let i = 0; i < whole.parameters.total; i++) {
    expect(parts.parameters.gradient[i]).toBeCloseTo(whole.parameters.gradient[i], 12);
  }
});

test('gradients exist only after the first backward pass', () => {
  const model = modelOf(SMALL);
  expect(() => model.parameters.gradient).toThrow(GemmoeError);
  const { ids, targets } = exampleBatch(SMALL.vocabSize);
  model.forwardBackward(ids, targets, BATCH, LENGTH);
  expect(model.parameters.gradient.length).toBe(model.parameters.total);
});

describe.each(USABLE_BACKENDS)('weights that %s holds', (name) => {
  const backend = backendNamed(name);
  afterAll(() => backend.close());
  const ids = Int32Array.from({ length: 2 * 9 }, (_, i) => (i * 7) % 11);

  function modelAt(config: Partial<ModelConfig>): Transformer {
    const model = new Transformer({ ...SMALL, hiddenSize: 24, expertWidth: 40, ...config }, bindKernels(backend));
    model.initialise(3);
    return model;
  }

  test.each<[string, Partial<ModelConfig>]>([
    ['experts', {}],
    ['a tied head', { tieEmbeddings: true }],
    ['a dense model', { numExperts: 1, topK: 1 }],
  ])('change no bit of the logits: %s', (_, config) => {
    const model = modelAt(config);
    const before = model.forward(ids, 2, 9).slice();
    model.holdWeights();
    model.holdWeights();
    expect(model.forward(ids, 2, 9)).toEqual(before);
    model.releaseWeights();
    expect(model.forward(ids, 2, 9)).toEqual(before);
  });

  test('are let go of by training, by new weights and by the end of the backend', () => {
    const [model, other] = [modelAt({}), modelAt({})];
    model.holdWeights();
    model.forwardBackward(ids, ids, 2, 9);
    model.parameters.data.fill(0);
    expect(model.forward(ids, 2, 9).every((value) => value === 0)).toBe(true);
    other.holdWeights();
    other.initialise(4);
    const wanted = modelAt({});
    wanted.initialise(4);
    expect(other.forward(ids, 2, 9)).toEqual(wanted.forward(ids, 2, 9));
    other.holdWeights();
    const closing = backendNamed(name);
    const last = new Transformer(SMALL, bindKernels(closing));
    last.holdWeights();
    closing.close();
    expect(() => last.releaseWeights()).not.toThrow();
  });
});

describe('a cache', () => {
  test.each([1, 2])('gives the logits of the full pass, token by token, for %i sequences', (batch) => {
    const model = modelOf(SMALL);
    const { ids } = exampleBatch(SMALL.vocabSize);
    const full = Float64Array.from(model.forward(ids.slice(0, batch * LENGTH), batch, LENGTH));
    const cache = new KvCache(model.config, batch, LENGTH, 'f64');
    for (let t = 0; t < LENGTH; t++) {
      const column = Int32Array.from({ length: batch }, (_, b) => ids[b * LENGTH + t]);
      const logits = model.forward(column, batch, 1, { cache });
      for (let b = 0; b < batch; b++) {
        for (let v = 0; v < SMALL.vocabSize; v++) {
          const wanted = full[(b * LENGTH + t) * SMALL.vocabSize + v];
          expect(logits[b * SMALL.vocabSize + v]).toBeCloseTo(wanted, 12);
        }
      }
    }
    expect(cache.length).toBe(LENGTH);
  });

  test('truncated and filled again, gives the same logits', () => {
    const model = modelOf(SMALL);
    const cache = new KvCache(model.config, 1, 8, 'f64');
    const ids = Int32Array.of(1, 2, 3, 4);
    const first = Float64Array.from(model.forward(ids, 1, 4, { cache, logits: 'last' }));
    cache.truncate(2);
    const again = model.forward(ids.slice(2), 1, 2, { cache, logits: 'last' });
    expect(Math.max(...first.map((value, i) => Math.abs(value - again[i])))).toBeLessThan(1e-12);
  });

  test('that is full is refused', () => {
    const model = modelOf(SMALL);
    const cache = new KvCache(model.config, 1, 2, 'f64');
    expect(() => model.forward(Int32Array.of(1, 2, 3), 1, 3, { cache })).toThrow(/holds 0 of 2 tokens/);
  });
});

describe('what cannot be computed is refused', () => {
  const model = modelOf(SMALL);
  test.each<[string, number[], RegExp]>([
    ['an id outside the vocabulary', [1, 11], /token id 11 \(row 1\) is outside the vocabulary of 11/],
    ['a negative id', [-1, 2], /token id -1/],
  ])('%s', (_, ids, message) => {
    expect(() => model.forward(Int32Array.from(ids), 1, 2)).toThrow(message);
  });

  test('a sequence beyond the longest', () => {
    expect(() => model.forward(new Int32Array(17), 1, 17)).toThrow(/17 tokens is longer than the model's 16/);
  });

  test('a target outside the vocabulary', () => {
    expect(() => model.forwardBackward(new Int32Array(2), Int32Array.of(1, 99), 1, 2)).toThrow(/target 99/);
  });

  test.each<[string, Partial<ModelConfig>, RegExp]>([
    ['more experts chosen than there are', { topK: 5 }, /topK is 5 but there are only 4 experts/],
    ['heads that do not divide', { numKvHeads: 3 }, /numHeads is 4, which numKvHeads 3 does not divide/],
    ['an odd head size', { headDim: 3 }, /headDim is 3/],
    ['a NaN', { ropeTheta: Number.NaN }, /ropeTheta/],
    ['a fraction', { hiddenSize: 2.5 }, /hiddenSize/],
    ['no layers', { numLayers: 0 }, /numLayers/],
  ])('%s', (_, changes, message) => {
    expect(() => parseModelConfig({ ...SMALL, ...changes })).toThrow(message);
  });
});

describe('presets', () => {
  test.each([
    ['tiny', 542_528, 345_920],
    ['small', 7_134_464, 3_988_736],
  ])('%s has %i parameters, %i active', (name, total, active) => {
    expect(totalParameters(PRESETS[name].config)).toBe(total);
    expect(activeParameters(PRESETS[name].config)).toBe(active);
    expect(new Transformer(PRESETS[name].config, kernels).parameters.total).toBe(total);
  });

  test('default6_9b has about 6.9 B parameters, 1.8 B active', () => {
    expect(totalParameters(PRESETS.default6_9b.config) / 1e9).toBeCloseTo(6.9, 1);
    expect(activeParameters(PRESETS.default6_9b.config) / 1e9).toBeCloseTo(1.8, 1);
  });

  test.each(Object.keys(PRESETS))('%s is valid', (name) => {
    expect(parseModelConfig(PRESETS[name].config)).toEqual(PRESETS[name].config);
  });
});

test('NTK-aware scaling stretches the rope base by alpha^(D/(D-2))', () => {
  expect(ropeBase({ ...SMALL, ropeTheta: 10000, ropeAlpha: 8, headDim: 64 })).toBeCloseTo(10000 * 8 ** (64 / 62), 6);
});

test('initialisation is a function of the seed', () => {
  const [one, same, other] = [1, 1, 2].map((seed) => {
    const model = new Transformer(SMALL, kernels);
    model.initialise(seed);
    return model.parameters.data;
  });
  expect(same).toEqual(one);
  expect(other).not.toEqual(one);
});
