// What public families do otherwise than our own models: every switch alone and together, forward and backward.

import { describe, expect, test } from 'vitest';
import { parseOptions } from '../core/config.ts';
import { type ModelConfig, parseModelConfig } from '../core/model/config.ts';
import { parameterCounts, totalParameters } from '../core/model/parameter-counts.ts';
import { MixedPrecision } from '../core/model/mixed-precision.ts';
import { KvCache } from '../core/model/kv-cache.ts';
import { ropeFrequencies } from '../core/model/rope-frequencies.ts';
import { RopeTables } from '../core/model/rope-tables.ts';
import { Transformer } from '../core/model/transformer.ts';
import { adamw } from '../plugins/optimizers/adamw.ts';
import { referenceKernels } from './support/kernels.ts';
import { BATCH, exampleBatch, expectModelGradients, LENGTH, modelOf, SMALL } from './support/small-model.ts';

const kernels = referenceKernels();
const DENSE = { numExperts: 1, topK: 1 } as const;
const YARN = { kind: 'yarn', factor: 4, originalLength: 4 } as const;

/** Changes of SMALL that switch something on; every one is tested in all ways below. */
const SWITCHED: [string, Partial<ModelConfig>][] = [
  ['biases of queries, keys and values', { qkvBias: true }],
  ['a bias of attention’s output', { outputBias: true }],
  ['biases of a dense layer', { ...DENSE, mlpBias: true }],
  ['a norm of each head', { qkNorm: 'head' }],
  ['a norm of the whole projection', { qkNorm: 'whole', qkvBias: true }],
  ['a window', { window: 2 }],
  ['a window in one layer', { window: [0, 3] }],
  ['rope whose cosines have a factor', { ropeScaling: YARN }],
  ['rope of neighbours', { ropeInterleaved: true }],
  ['clipped queries, keys and values', { clipQkv: 0.7 }],
  ['clipped after a norm', { clipQkv: 0.7, qkNorm: 'head' }],
  ['multipliers', { embeddingMultiplier: 3, attentionMultiplier: 0.2, residualMultiplier: 0.4, logitsDivisor: 1.7 }],
  ['multipliers with a tied head', { tieEmbeddings: true, embeddingMultiplier: 3, logitsDivisor: 1.7 }],
  ['probabilities as they are', { renormalise: false }],
  ['a least sum that some rows are below', { renormaliseFloor: 0.8 }],
  ['a least sum and a selection bias', { renormaliseFloor: 0.8, selectionBias: true }],
  ['a shared expert', { sharedWidth: 3 }],
  ['a gated shared expert', { sharedWidth: 3, sharedGate: true }],
  ['a dense layer among experts', { denseLayers: [0], denseWidth: 7 }],
  ['a dense layer among experts, a pooled loss', { denseLayers: [1], auxLossReduction: 'pooled' }],
  ['LayerNorm', { norm: 'layer' }],
  ['a bias of the head', { headBias: true }],
  ['sparsemixer', { sparseMixer: 0.3 }],
  [
    'everything of PhiMoE',
    { norm: 'layer', headBias: true, qkvBias: true, outputBias: true, sparseMixer: 0.3, denseLayers: [1] },
  ],
];

describe.each(SWITCHED)('%s', (_, changes) => {
  const config: ModelConfig = { ...SMALL, ...changes };
  const { ids, targets } = exampleBatch(SMALL.vocabSize);

  test('every gradient equals central differences in float64', () => {
    expectModelGradients(config);
  });

  test('changes the logits', () => {
    const plain = { ...SMALL, ...(config.numExperts === 1 && DENSE) };
    const weights = modelOf(config);
    const without = new Transformer(plain, kernels, { dtype: 'f64' });
    for (const { name, data } of without.parameters.parameters) {
      // a dense layer has no router, and experts of another shape
      const same = weights.parameters.parameters.find(
        (other) => other.name === name && other.data.length === data.length,
      );
      if (same) data.set(same.data);
    }
    const logits = Float64Array.from(weights.forward(ids, BATCH, LENGTH));
    const others = without.forward(ids, BATCH, LENGTH);
    expect(Math.max(...logits.map((value, i) => Math.abs(value - others[i])))).toBeGreaterThan(1e-3);
  });

  test('decoding with a cache gives the logits of the full pass', () => {
    const model = modelOf(config);
    const full = Float64Array.from(model.forward(ids, BATCH, LENGTH));
    const cache = new KvCache(model.config, BATCH, LENGTH, 'f64');
    for (const [from, to] of [
      [0, 2],
      [2, 3],
      [3, 5],
    ]) {
      const length = to - from;
      const columns = Int32Array.from({ length: BATCH * length }, (_, i) => {
        return ids[Math.floor(i / length) * LENGTH + from + (i % length)];
      });
      const logits = model.forward(columns, BATCH, length, { cache });
      for (let b = 0; b < BATCH; b++) {
        const wanted = full.subarray((b * LENGTH + from) * SMALL.vocabSize, (b * LENGTH + to) * SMALL.vocabSize);
        const found = logits.subarray(b * length * SMALL.vocabSize, (b + 1) * length * SMALL.vocabSize);
        expect(Math.max(...wanted.map((value, i) => Math.abs(value - found[i])))).toBeLessThan(1e-12);
      }
    }
  });

  test('checkpointed activations give the same bits', () => {
    const gradients = [0, 1].map((checkpointEvery) => {
      const model = modelOf(config);
      model.forwardBackward(ids, targets, BATCH, LENGTH, { checkpointEvery });
      return model.parameters.gradient;
    });
    expect(gradients[1]).toEqual(gradients[0]);
  });

  test('is counted', () => {
    expect(totalParameters(config)).toBe(new Transformer(config, kernels).parameters.total);
    const biases = new Transformer(config, kernels).parameters.parameters.filter(({ role }) => role === 'bias');
    expect(parameterCounts(config).bias).toBe(biases.reduce((sum, { data }) => sum + data.length, 0));
  });
});

/** A dense and an expert layer with all kinds of biases and norms. */
const MUCH: ModelConfig = {
  ...{ ...SMALL, norm: 'layer', headBias: true, qkvBias: true, outputBias: true, qkNorm: 'head', window: [0, 3] },
  ...{ sharedWidth: 3, sharedGate: true, denseLayers: [0], denseWidth: 7, clipQkv: 4, residualMultiplier: 0.7 },
};

test.each(['bf16', 'fp16'] as const)('products in %s stay near those in float32, and biases follow', (format) => {
  const { ids, targets } = exampleBatch(SMALL.vocabSize);
  const [plain, half] = [0, 1].map(() => {
    const model = new Transformer(MUCH, kernels);
    model.parameters.data.set(modelOf(MUCH).parameters.data);
    return model;
  });
  const mixed = new MixedPrecision(half.parameters, kernels, { format });
  expect(mixed.bytesFor(half.parameters, false)).toBeGreaterThan(0);
  plain.forwardBackward(ids, targets, BATCH, LENGTH);
  half.forwardBackward(ids, targets, BATCH, LENGTH, { mixed });
  expect(half.parameters.gradient).not.toEqual(plain.parameters.gradient);
  for (const [i, { name, gradient }] of plain.parameters.parameters.entries()) {
    const other = half.parameters.parameters[i].gradient;
    const size = Math.hypot(...gradient);
    expect(size, name).toBeGreaterThan(0);
    expect(Math.hypot(...gradient.map((value, j) => value - other[j])) / size, name).toBeLessThan(0.1);
  }
  // what is multiplied has a rounded copy; norms, biases and what stays in float32 have none
  for (const parameter of half.parameters.parameters) {
    if (/router|head|final/.test(parameter.name)) expect(mixed.of(parameter), parameter.name).toBeNull();
  }
});

test('weight decay spares every norm and every bias', () => {
  const { parameters: store } = modelOf(MUCH);
  const before = store.data.slice();
  store.ensureGradients(); // of zeros: the decay alone moves the weights
  const optimizer = adamw.create(parseOptions(adamw, { weightDecay: 0.5 }), { store, kernels });
  optimizer.step({ step: 1, learningRate: 1, gradientScale: 1 });
  for (const { name, offset, data } of store.parameters) {
    const factor = /_norm$|_bias$|^embedding$/.test(name) ? 1 : 0.5;
    for (const [i, value] of data.entries()) expect(value, name).toBe(factor * before[offset + i]);
  }
});

test('routing is recorded for the layers that have experts alone', () => {
  const model = modelOf({ ...MUCH, numLayers: 3, window: 2, denseLayers: [1] });
  const { ids, targets } = exampleBatch(SMALL.vocabSize);
  const routing = { zLoss: 0.1, jitter: 0, capacityFactor: 0.5 };
  const { auxLoss, zLoss } = model.forwardBackward(ids, targets, BATCH, LENGTH, { routing });
  expect(Number.isFinite(auxLoss) && Number.isFinite(zLoss)).toBe(true);
  const layers = model.routingTotals?.layers() ?? [];
  expect(layers.map(({ rows }) => rows)).toEqual([20, 20]);
  for (const layer of [0, 2]) {
    expect((model.routing?.load(layer) ?? []).reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12);
  }
});

test('biases begin at 0 and norms at 1', () => {
  const model = new Transformer({ ...SMALL, qkvBias: true, outputBias: true, qkNorm: 'head' }, kernels);
  model.initialise(1);
  for (const { name, role, data } of model.parameters.parameters) {
    if (role === 'bias' || role === 'norm') expect(new Set(data), name).toEqual(new Set([role === 'bias' ? 0 : 1]));
    else expect(new Set(data).size, name).toBeGreaterThan(1);
  }
  expect(model.parameters.get('layers.1.attention.qkv_bias').role).toBe('bias');
  expect(model.parameters.get('layers.1.attention.query_norm').shape).toEqual([4]);
});

describe('rope scaling', () => {
  const base: ModelConfig = { ...SMALL, ropeTheta: 10000, ropeAlpha: 1, headDim: 8, maxSequenceLength: 64 };
  const frequencies = (ropeScaling: ModelConfig['ropeScaling'], length = 1) =>
    ropeFrequencies({ ...base, ropeScaling }, length);
  const plain = [1, 0.1, 0.01, 0.001];
  const close = (found: Float64Array, wanted: number[]) => {
    expect(found).toHaveLength(wanted.length);
    for (const [i, value] of wanted.entries()) expect(found[i]).toBeCloseTo(value, 12);
  };

  test('none', () => {
    close(frequencies(undefined).frequencies, plain);
    expect(frequencies(undefined).factor).toBe(1);
  });

  test('linear divides every frequency', () => {
    close(frequencies({ kind: 'linear', factor: 2 }).frequencies, [0.5, 0.05, 0.005, 0.0005]);
  });

  test('dynamic leaves short sequences alone and stretches the base with the length of long ones', () => {
    const scaling = { kind: 'dynamic', factor: 2, originalLength: 16 } as const;
    close(frequencies(scaling, 16).frequencies, plain);
    // s = 32: theta·(2·32/16 - 1)^(8/6)
    const theta = 10000 * 3 ** (8 / 6);
    close(
      frequencies(scaling, 32).frequencies,
      plain.map((_, i) => theta ** (-i / 4)),
    );
  });

  test('llama3 divides slow pairs, keeps fast ones and blends between', () => {
    const scaling = { kind: 'llama3', factor: 8, originalLength: 128, lowFrequencyFactor: 1, highFrequencyFactor: 4 };
    // wavelengths 6.28, 62.8, 628, 6283: below 128/4 kept, above 128 divided; 128/62.83 = 2.037 lies between 1 and 4
    const smooth = (128 / (2 * Math.PI * 10) - 1) / 3;
    close(frequencies(scaling as ModelConfig['ropeScaling']).frequencies, [
      1,
      (1 - smooth) * 0.0125 + smooth * 0.1,
      0.00125,
      0.000125,
    ]);
  });

  test('yarn ramps from plain to divided pairs, and sharpens', () => {
    // turns of 32 and 1 within 64: pairs 8·ln(64/(2π·32))/(2·ln 10000) < 0 and 8·ln(64/2π)/(2·ln 10000) = 1.008, so 0 … 2
    const { frequencies: found, factor } = frequencies({ kind: 'yarn', factor: 4, originalLength: 64 });
    close(found, [1, 0.1 / 4 / 2 + 0.1 / 2, 0.0025, 0.00025]);
    expect(factor).toBeCloseTo(0.1 * Math.log(4) + 1, 12);
    expect(frequencies({ kind: 'yarn', factor: 4, originalLength: 64, attentionFactor: 0.7 }).factor).toBe(0.7);
    const both = frequencies({ kind: 'yarn', factor: 4, originalLength: 64, mscale: 1, mscaleAllDim: 0.5 });
    expect(both.factor).toBeCloseTo((0.1 * Math.log(4) + 1) / (0.05 * Math.log(4) + 1), 12);
    const real = frequencies({ kind: 'yarn', factor: 4, originalLength: 64, truncate: false }).frequencies;
    const high = (8 * Math.log(64 / (2 * Math.PI))) / (2 * Math.log(10000));
    const ramp = Math.min(1, 1 / high);
    expect(real[1]).toBeCloseTo((0.1 / 4) * ramp + 0.1 * (1 - ramp), 12);
  });

  test('longrope has a list for short and one for long sequences', () => {
    const scaling = {
      kind: 'longrope',
      originalLength: 16,
      shortFactors: [1, 2, 4, 5],
      longFactors: [10, 10, 10, 10],
    } satisfies ModelConfig['ropeScaling'];
    close(frequencies(scaling, 16).frequencies, [1, 0.05, 0.0025, 0.0002]);
    const long = frequencies(scaling, 17);
    close(long.frequencies, [0.1, 0.01, 0.001, 0.0001]);
    // 64 / 16 = 4 times as long
    expect(long.factor).toBeCloseTo(Math.sqrt(1 + Math.log(4) / Math.log(16)), 12);
    const mscale = { ...scaling, shortMscale: 1.2, longMscale: 1.3 };
    expect([16, 17].map((length) => frequencies(mscale, length).factor)).toEqual([1.2, 1.3]);
  });

  test('tables follow the length where they must, back as well', () => {
    const config: ModelConfig = { ...base, ropeScaling: { kind: 'dynamic', factor: 4, originalLength: 16 } };
    const tables = new RopeTables(config, 'f64');
    const angle = () => Math.asin(tables.sin[1]); // position 0, pair 1 is 0; position 1 starts at 4
    tables.ensure(10);
    const short = tables.sin[4 + 3];
    tables.ensure(40);
    expect(tables.sin[4 + 3]).toBeCloseTo(Math.sin(ropeFrequencies(config, 40).frequencies[3]), 14);
    expect(tables.sin[4 + 3]).toBeLessThan(short / 2);
    tables.ensure(12);
    expect(tables.sin[4 + 3]).toBe(short);
    expect(angle()).toBe(0);
  });

  test.each<[string, Partial<ModelConfig>, RegExp]>([
    [
      'a list of another length',
      { ropeScaling: { kind: 'longrope', originalLength: 4, shortFactors: [1], longFactors: [1, 1] } },
      /ropeScaling.shortFactors has 1 numbers/,
    ],
    [
      'bands that cross',
      {
        ropeScaling: { kind: 'llama3', factor: 2, originalLength: 4, lowFrequencyFactor: 4, highFrequencyFactor: 1 },
      },
      /lowFrequencyFactor is 4 and highFrequencyFactor 1/,
    ],
    [
      'NTK with two elements',
      { headDim: 2, ropeAlpha: 1, ropeScaling: { kind: 'dynamic', factor: 2, originalLength: 4 } },
      /dynamic with headDim 2/,
    ],
    ['a window too few', { window: [1] }, /window has 1 numbers but there are 2 layers/],
    ['biases of experts', { mlpBias: true }, /mlpBias is set for a model of experts/],
  ])('%s is refused', (_, changes, message) => {
    expect(() => parseModelConfig({ ...SMALL, ...changes })).toThrow(message);
  });
});
