// What keeps routing balanced: z-loss, jitter, capacity, the selection bias; and what a step says about it.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parseOptions } from '../core/config.ts';
import { loadModel, readModelConfig, saveModel } from '../core/formats/hugging-face.ts';
import {
  expertCapacity,
  limitCapacity,
  PLAIN_ROUTING,
  type RoutingOptions,
  RoutingTotals,
  updateSelectionBias,
} from '../core/model/balancing.ts';
import type { ModelConfig } from '../core/model/config.ts';
import { PRESETS } from '../core/model/presets.ts';
import { type TrainingOptions, Transformer } from '../core/model/transformer.ts';
import { Random } from '../core/random.ts';
import { Trainer, type TrainerOptions } from '../core/training/trainer.ts';
import { adamw } from '../plugins/optimizers/adamw.ts';
import { expectGradient } from './support/differences.ts';
import { referenceKernels } from './support/kernels.ts';

const kernels = referenceKernels();

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-balancing-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const [V, B, T] = [11, 2, 5];

const SMALL: ModelConfig = {
  ...PRESETS['tiny'].config,
  ...{ vocabSize: V, hiddenSize: 6, numHeads: 2, numKvHeads: 1, headDim: 4, expertWidth: 5, ropeTheta: 100 },
  auxLossCoefficient: 0.1,
};

function modelOf(changes: Partial<ModelConfig> = {}): Transformer {
  const model = new Transformer({ ...SMALL, ...changes }, kernels, { dtype: 'f64' });
  new Random(7, 'test').fillNormal(model.parameters.data, 0, 0.4, 0);
  for (const [i, { data }] of model.parameters.buffers.entries()) new Random(8, 'bias').fillNormal(data, 0, 0.3, i);
  return model;
}

function batch(): { ids: Int32Array; targets: Int32Array } {
  const random = new Random(3, 'batch');
  const draw = (step: number) => Int32Array.from({ length: B * T }, (_, i) => random.below(V, step, i));
  return { ids: draw(0), targets: draw(1) };
}

const jitter = { random: new Random(2, 'noise'), step: 3, pass: 0 };

describe('every gradient equals central differences in float64', () => {
  test.each<[string, Partial<RoutingOptions>, Partial<ModelConfig>]>([
    ['with a z-loss', { zLoss: 0.2 }, {}],
    ['with jitter', { jitter: 0.3 }, {}],
    ['with experts that are full', { capacityFactor: 0.7 }, {}],
    ['with experts that are full, one choice', { capacityFactor: 0.7 }, { topK: 1 }],
    ['with a selection bias', {}, { selectionBias: true }],
    ['with all of them', { zLoss: 0.2, jitter: 0.3, capacityFactor: 0.7 }, { selectionBias: true }],
  ])('%s', (_, routing, changes) => {
    const model = modelOf(changes);
    const { ids, targets } = batch();
    const options: TrainingOptions = { routing: { ...PLAIN_ROUTING, ...routing }, jitter };
    const loss = () => {
      const { lossSum, tokens, auxLoss, zLoss } = model.forwardBackward(ids, targets, B, T, options);
      return lossSum / tokens + SMALL.auxLossCoefficient * auxLoss! + (routing.zLoss ?? 0) * (zLoss ?? 0);
    };
    loss();
    const gradient = model.parameters.gradient.slice();
    for (const { name, offset, data } of model.parameters.parameters) {
      expectGradient(name, data, gradient.subarray(offset, offset + data.length), loss, 2e-6);
    }
  });
});

describe('the selection bias', () => {
  test('changes what is chosen', () => {
    const { ids } = batch();
    const [biased, plain] = [modelOf({ selectionBias: true }), modelOf()];
    expect(biased.forward(ids, B, T)).not.toEqual(plain.forward(ids, B, T));
    for (const { data } of biased.parameters.buffers) data.fill(0);
    expect(biased.forward(ids, B, T)).toEqual(plain.forward(ids, B, T));
  });

  test('moves against the load by the rate, without drifting', () => {
    const bias = Float32Array.of(0, 0.5, 0, 0);
    updateSelectionBias(bias, [10, 2, 2, 6], 0.1);
    // mean 5: signs -1, 1, 1, -1, whose mean is 0
    for (const [i, wanted] of [-0.1, 0.6, 0.1, -0.1].entries()) expect(bias[i]).toBeCloseTo(wanted, 6);
    updateSelectionBias(bias, [17, 1, 1, 1], 0.1);
    // signs -1, 1, 1, 1, less their mean of 1/2
    for (const [i, wanted] of [-0.25, 0.65, 0.15, -0.05].entries()) expect(bias[i]).toBeCloseTo(wanted, 6);
    updateSelectionBias(bias, [5, 5, 5, 5], 0.1);
    expect(bias[0]).toBeCloseTo(-0.25, 6);
  });

  test('is moved by training alone', () => {
    const model = modelOf({ selectionBias: true });
    const { ids, targets } = batch();
    const before = model.parameters.buffers.map(({ data }) => data.slice());
    model.evaluate(ids, targets, B, T);
    model.forward(ids, B, T);
    expect(model.parameters.buffers.map(({ data }) => data)).toEqual(before);
    trainerOf(model, { biasRate: 0.01 }).step(ids, targets, B, T);
    expect(model.parameters.buffers.map(({ data }) => data)).not.toEqual(before);
  });

  test('is written to a model directory and read again, and is no weight', () => {
    const model = new Transformer({ ...SMALL, selectionBias: true }, kernels);
    model.initialise(1);
    for (const [i, { data }] of model.parameters.buffers.entries()) new Random(8, 'bias').fillNormal(data, 0, 1, i);
    saveModel(join(scratch, 'biased'), model);
    const { model: loaded } = loadModel(join(scratch, 'biased'), kernels);
    expect(loaded.config.selectionBias).toBe(true);
    expect(loaded.parameters.buffers.map(({ data }) => data)).toEqual(model.parameters.buffers.map(({ data }) => data));
    expect(loaded.parameters.data).toEqual(model.parameters.data);
    expect(model.parameters.total).toBe(new Transformer(SMALL, kernels).parameters.total);
  });

  test('of a model that has none begins at zero, where it is asked for', () => {
    saveModel(join(scratch, 'plain'), new Transformer(SMALL, kernels));
    expect(readModelConfig(join(scratch, 'plain')).config.selectionBias).toBeUndefined();
    const { model } = loadModel(join(scratch, 'plain'), kernels, { selectionBias: true });
    expect(model.parameters.buffers.map(({ data }) => [...data])).toEqual([
      [0, 0, 0, 0],
      [0, 0, 0, 0],
    ]);
  });
});

describe('capacity', () => {
  const routingOf = (experts: number[]) => ({
    experts: Int32Array.from(experts),
    weights: new Float64Array(experts.length).fill(0.5),
    offsets: new Int32Array(4),
    rows: new Int32Array(experts.length),
    slots: new Int32Array(experts.length),
  });

  test('is an even share times the factor, rounded up', () => {
    expect(expertCapacity(1, 8, 2, 4)).toBe(4);
    expect(expertCapacity(1.25, 6, 2, 4)).toBe(4);
    expect(expertCapacity(0.01, 6, 2, 4)).toBe(1);
  });

  test('drops what comes after it, token by token', () => {
    const routing = routingOf([0, 1, 0, 2, 0, 1, 1, 0]);
    limitCapacity(routing, 8, 2, new Int32Array(3));
    expect([...routing.weights]).toEqual([0.5, 0.5, 0.5, 0.5, 0, 0.5, 0, 0]);
  });

  test('what a token gets does not depend on later ones', () => {
    const model = modelOf({ auxLossCoefficient: 0 });
    const { ids, targets } = batch();
    const options = { routing: { ...PLAIN_ROUTING, capacityFactor: 0.6 } };
    const changed = ids.slice();
    changed[T - 1] = (changed[T - 1] + 1) % V;
    // one sequence: the loss of its first rows alone
    const early = targets.slice().fill(-100, T - 1, T);
    const lossOf = (input: Int32Array) => model.forwardBackward(input, early, 1, T, options).lossSum;
    expect(lossOf(changed)).toBe(lossOf(ids));
  });

  test('counts what it drops; a generous one drops nothing and changes nothing', () => {
    const { ids, targets } = batch();
    const stepWith = (capacityFactor: number) => {
      const model = modelOf();
      const routing = { ...PLAIN_ROUTING, capacityFactor };
      const step = trainerOf(model, { routing }).step(ids, targets, B, T);
      return { ...step, weights: model.parameters.data };
    };
    const [none, generous, tight] = [0, 4, 0.5].map(stepWith);
    expect(generous.routing.map(({ dropped }) => dropped)).toEqual([0, 0]);
    expect(generous.weights).toEqual(none.weights);
    const capacity = expertCapacity(0.5, B * T, 2, 4);
    const excess = none.routing[0].load
      .map((share) => Math.max(0, share * B * T * 2 - capacity))
      .reduce((sum, rows) => sum + rows, 0);
    expect(tight.routing[0].dropped).toBeCloseTo(excess / (B * T * 2), 12);
    expect(tight.routing[0].dropped).toBeGreaterThan(0.3);
    expect(tight.loss).not.toBe(none.loss);
  });

  test('does not bind when the model is used', () => {
    const { ids, targets } = batch();
    const model = modelOf();
    const before = model.evaluate(ids, targets, B, T);
    model.forwardBackward(ids, targets, B, T, { routing: { ...PLAIN_ROUTING, capacityFactor: 0.3 } });
    expect(model.evaluate(ids, targets, B, T)).toEqual(before);
  });
});

describe('jitter', () => {
  const { ids, targets } = batch();
  const lossWith = (source: typeof jitter, checkpointEvery = 0) => {
    const routing = { ...PLAIN_ROUTING, jitter: 0.5 };
    const model = modelOf();
    const { lossSum } = model.forwardBackward(ids, targets, B, T, { routing, jitter: source, checkpointEvery });
    return { lossSum, gradient: model.parameters.gradient };
  };

  test('is a function of seed, step and micro-batch', () => {
    const { lossSum } = lossWith(jitter);
    expect(lossWith({ ...jitter }).lossSum).toBe(lossSum);
    const others = [
      { ...jitter, step: 4 },
      { ...jitter, pass: 1 },
      { ...jitter, random: new Random(3, 'noise') },
    ];
    for (const other of others) expect(lossWith(other).lossSum).not.toBe(lossSum);
  });

  test('is the same when a block is computed again', () => {
    expect(lossWith(jitter, 1)).toEqual(lossWith(jitter));
  });

  test('is uniform on 1±ε', () => {
    const noise = new Float64Array(4003);
    new Random(1, 'noise').fillUniform(noise, 4002, 0.8, 1.2, 1, 5);
    expect(noise[4002]).toBe(0);
    const drawn = [...noise.subarray(0, 4002)];
    expect(Math.min(...drawn)).toBeGreaterThanOrEqual(0.8);
    expect(Math.max(...drawn)).toBeLessThan(1.2);
    expect(Math.min(...drawn)).toBeLessThan(0.801);
    expect(Math.max(...drawn)).toBeGreaterThan(1.199);
    expect(drawn.reduce((sum, value) => sum + value, 0) / drawn.length).toBeCloseTo(1, 2);
  });
});

function trainerOf(model: Transformer, options: TrainerOptions, rate = 3e-3): Trainer {
  const optimizer = adamw.create(parseOptions(adamw, {}), { store: model.parameters, kernels });
  return new Trainer(model, optimizer, () => rate, options);
}

describe('what a step says about its routing', () => {
  test("are each layer's own: picks, drops and dead experts of its passes", () => {
    const totals = new RoutingTotals({ ...SMALL, numLayers: 3, numExperts: 4, topK: 1, denseLayers: [1] });
    const uniform = new Float32Array(32).fill(0.25);
    const passOf = (...offsets: number[]) => {
      const none = new Int32Array(0);
      return { experts: none, weights: uniform, offsets: Int32Array.from(offsets), rows: none, slots: none };
    };
    for (const _ of ['what a reset forgets', 'what counts']) {
      totals.reset();
      totals.add(0, passOf(0, 2, 4, 6, 8), uniform, 8, 2);
      totals.add(2, passOf(0, 0, 6, 6, 8), uniform, 8, 4);
      totals.add(2, passOf(0, 0, 2, 2, 8), uniform, 8, 4);
    }
    const entropy = Math.log(4);
    expect(totals.layers()).toEqual([
      { rows: 8, load: [0.25, 0.25, 0.25, 0.25], entropy: expect.closeTo(entropy, 12), dropped: 0, dead: 0 },
      { rows: 16, load: [0, 0.5, 0, 0.5], entropy: expect.closeTo(entropy, 12), dropped: 0.25, dead: 2 },
    ]);
  });

  test('are the loads, the entropy and the dead experts of all its micro-batches, recomputed blocks not counted', () => {
    const { ids, targets } = batch();
    const whole = trainerOf(modelOf(), {}).step(ids, targets, B, T);
    const parts = trainerOf(modelOf(), { accumulate: B, checkpointEvery: 1 }).step(ids, targets, 1, T);
    for (const [layer, { rows, load, entropy, dead }] of whole.routing.entries()) {
      expect(rows).toBe(B * T * 2);
      expect(parts.routing[layer].rows).toBe(rows);
      expect(load.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12);
      expect(parts.routing[layer].load).toEqual(load);
      expect(parts.routing[layer].entropy).toBeCloseTo(entropy, 12);
      expect(dead).toBe(load.filter((share) => share === 0).length);
    }
  });

  test('the z-loss is the mean of the squared logsumexp of the routers, over all micro-batches', () => {
    const { ids, targets } = batch();
    const model = modelOf();
    for (const { role, data } of model.parameters.parameters) if (role === 'router') data.fill(0);
    const routing = { ...PLAIN_ROUTING, zLoss: 0.1 };
    const { zLoss } = trainerOf(model, { routing, accumulate: B }).step(ids, targets, 1, T);
    expect(zLoss).toBeCloseTo(Math.log(4) ** 2, 12);
  });

  test('the entropy is ln E when the router is undecided, and 0 when it is certain', () => {
    const { ids, targets } = batch();
    const entropyWith = (scale: number) => {
      const model = modelOf();
      for (const { role, data } of model.parameters.parameters) {
        if (role === 'router') data.forEach((value, i) => (data[i] = value * scale));
      }
      return trainerOf(model, {}).step(ids, targets, B, T).routing[0].entropy;
    };
    expect(entropyWith(0)).toBeCloseTo(Math.log(4), 12);
    expect(entropyWith(1e6)).toBeCloseTo(0, 6);
  });

  test('a dense model has none', () => {
    const { ids, targets } = batch();
    const model = modelOf({ numExperts: 1, topK: 1 });
    expect(trainerOf(model, {}).step(ids, targets, B, T)).toMatchObject({ routing: [], zLoss: null, auxLoss: null });
  });
});

/**
 * A task on which routing collapses: embeddings have a large part in common, so that at first every token looks alike to the
 * routers and goes to the same experts; the others get no gradient and stay as they are. Sequences step through residues.
 */
function trainOnAlikeTokens(seed: number, auxLossCoefficient: number, options: TrainerOptions) {
  const [C, N, steps] = [16, 16, 120];
  const model = new Transformer(
    {
      ...PRESETS['tiny'].config,
      ...{ vocabSize: N, hiddenSize: C, numHeads: 2, headDim: 8, numExperts: 8, expertWidth: 16 },
      ...{ auxLossCoefficient, selectionBias: (options.biasRate ?? 0) > 0 },
    },
    kernels,
  );
  model.initialise(1);
  const common = new Float32Array(C);
  new Random(9, 'common').fillNormal(common, 0, 1, 0);
  for (const { role, data, offset } of model.parameters.parameters) {
    if (role === 'router') new Random(seed, 'router').fillNormal(data, 0, 0.5, offset);
    if (role === 'embedding') data.forEach((value, i) => (data[i] = 5 * value + common[i % C]));
  }
  const random = new Random(4, 'data');
  const [ids, targets] = [new Int32Array(N * N), new Int32Array(N * N)];
  const trainer = trainerOf(model, options);
  const last: { dead: number; largest: number }[] = [];
  for (let step = 1; step <= steps; step++) {
    for (let b = 0; b < N; b++) {
      let value = random.below(N, step, 2 * b);
      const factor = 1 + random.below(3, step, 2 * b + 1);
      for (let t = 0; t < N; t++) {
        ids[b * N + t] = value;
        value = (value * factor + 3) % N;
        targets[b * N + t] = value;
      }
    }
    const { load, dead } = trainer.step(ids, targets, N, N).routing[0];
    if (step > steps - 10) last.push({ dead, largest: Math.max(...load) });
  }
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return { dead: mean(last.map(({ dead }) => dead)), largest: mean(last.map(({ largest }) => largest)) };
}

describe.each([1, 2])('routing of tokens that look alike, seed %i', (seed) => {
  test('collapses without balancing: two experts of eight do nearly everything, three get nothing', () => {
    const { dead, largest } = trainOnAlikeTokens(seed, 0, {});
    expect(dead).toBeGreaterThan(2.5);
    expect(largest).toBeGreaterThan(0.4); // 0.5 is every token, with two choices each
  });

  test.each<[string, number, TrainerOptions]>([
    ['the auxiliary loss', 0.05, {}],
    ['the selection bias, without auxiliary loss', 0, { biasRate: 0.01 }],
  ])('does not with %s', (_, auxLossCoefficient, options) => {
    const { dead, largest } = trainOnAlikeTokens(seed, auxLossCoefficient, options);
    expect(dead).toBeLessThan(1.5);
    expect(largest).toBeLessThan(0.37);
  });
});
