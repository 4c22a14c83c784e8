// What one training step can do besides the plain one: micro-batches, activation checkpointing, an average of the weights.

import { describe, expect, test } from 'vitest';
import { parseOptions } from '../core/config.ts';
import { IGNORE_INDEX } from '../core/kernels.ts';
import type { ModelConfig } from '../core/model/config.ts';
import { PRESETS } from '../core/model/presets.ts';
import { Transformer } from '../core/model/transformer.ts';
import { Random } from '../core/random.ts';
import type { ComputeType } from '../core/tensor/dtype.ts';
import { withEma } from '../core/training/ema.ts';
import { Trainer, type TrainerOptions } from '../core/training/trainer.ts';
import { adamw } from '../plugins/optimizers/adamw.ts';
import { backendNamed, referenceKernels, USABLE_BACKENDS } from './support/kernels.ts';
import { bindKernels, type Kernels } from '../core/kernels.ts';

const V = 23;
const T = 6;

const CONFIG: ModelConfig = {
  ...PRESETS['tiny'].config,
  ...{ vocabSize: V, hiddenSize: 16, numLayers: 5, numHeads: 2, headDim: 8, expertWidth: 12 },
};

interface Made {
  readonly changes?: Partial<ModelConfig>;
  readonly dtype?: ComputeType;
  readonly kernels?: Kernels;
}

function modelOf({ changes = {}, dtype = 'f32', kernels = referenceKernels() }: Made = {}): Transformer {
  const model = new Transformer({ ...CONFIG, ...changes }, kernels, { dtype });
  new Random(7, 'test').fillNormal(model.parameters.data, 0, 0.2, 0);
  return model;
}

/** A step's tokens; `missing` of the rows, spread unevenly, have no target. */
function sequences(count: number, missing = 0): { ids: Int32Array; targets: Int32Array } {
  const random = new Random(3, 'batch');
  const draw = (step: number) => Int32Array.from({ length: count * T }, (_, i) => random.below(V, step, i));
  const targets = draw(1);
  for (let i = 0; i < missing; i++) targets[i] = IGNORE_INDEX;
  return { ids: draw(0), targets };
}

function trainerOf(model: Transformer, options: TrainerOptions): Trainer {
  const { parameters: store, kernels } = model;
  return new Trainer(model, adamw.create(parseOptions(adamw, {}), { store, kernels }), () => 1e-2, options);
}

/** Weights after three steps of `sequencesPerStep` sequences. */
function trained(options: TrainerOptions & Made, sequencesPerStep: number, missing = 0) {
  const model = modelOf(options);
  const trainer = trainerOf(model, options);
  const { ids, targets } = sequences(sequencesPerStep, missing);
  const batch = sequencesPerStep / (options.accumulate ?? 1);
  const steps = [1, 2, 3].map(() => trainer.step(ids, targets, batch, T));
  return { weights: model.parameters.data, steps, model };
}

const distance = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Math.max(...Array.from(a, (value, i) => Math.abs(value - b[i])));

describe('gradient accumulation', () => {
  const noAux = { auxLossCoefficient: 0 };

  test.each([
    ['all rows with a target', 0],
    ['a micro-batch of which few rows have a target', T + 4],
    ['a micro-batch without any target', 2 * T],
  ])('of 3 micro-batches is the large batch within rounding, %s', (_, missing) => {
    const large = trained({ changes: noAux, dtype: 'f64' }, 6, missing);
    const micro = trained({ changes: noAux, dtype: 'f64', accumulate: 3 }, 6, missing);
    expect(distance(micro.weights, large.weights)).toBeLessThan(1e-11);
    for (const [i, step] of micro.steps.entries()) {
      expect(step.loss).toBeCloseTo(large.steps[i].loss, 12);
      expect(step.gradientNorm).toBeCloseTo(large.steps[i].gradientNorm, 11);
      expect(step.tokens).toBe(6 * T - missing);
    }
  });

  test('takes the auxiliary loss of the micro-batches in equal shares', () => {
    const model = modelOf({ dtype: 'f64' });
    const { ids, targets } = sequences(4);
    const alone = [0, 2].map((b) => {
      const part = [b * T, (b + 2) * T] as const;
      return model.evaluate(ids.slice(...part), targets.slice(...part), 2, T).auxLoss!;
    });
    const step = trainerOf(model, { accumulate: 2 }).step(ids, targets, 2, T);
    expect(step.auxLoss).toBeCloseTo((alone[0] + alone[1]) / 2, 12);
  });

  test('of micro-batches that are alike is the gradient of one, auxiliary loss included', () => {
    const one = sequences(2);
    const twice = {
      ids: Int32Array.of(...one.ids, ...one.ids),
      targets: Int32Array.of(...one.targets, ...one.targets),
    };
    const [single, double] = [modelOf({ dtype: 'f64' }), modelOf({ dtype: 'f64' })];
    trainerOf(single, {}).step(one.ids, one.targets, 2, T);
    trainerOf(double, { accumulate: 2 }).step(twice.ids, twice.targets, 2, T);
    expect(distance(double.parameters.data, single.parameters.data)).toBeLessThan(1e-11);
  });

  test('holds the activations of a micro-batch only', () => {
    const [large, micro] = [trained({}, 6), trained({ accumulate: 3 }, 6)];
    expect(micro.model.activationBytes).toBeLessThan(large.model.activationBytes / 2);
  });

  test('refuses a step without any target', () => {
    const { ids } = sequences(2);
    const nothing = new Int32Array(ids.length).fill(IGNORE_INDEX);
    expect(() => trainerOf(modelOf(), { accumulate: 2 }).step(ids, nothing, 1, T)).toThrow(/no row of the step/);
  });
});

describe('activation checkpointing', () => {
  const gradientsOf = (checkpointEvery: number, made: Made) => {
    const model = modelOf(made);
    const { ids, targets } = sequences(3);
    const result = model.forwardBackward(ids, targets, 3, T, { checkpointEvery });
    return { gradient: model.parameters.gradient, result, model };
  };

  describe.each(USABLE_BACKENDS)('on %s', (name) => {
    const kernels = bindKernels(backendNamed(name));
    test.each<[string, Partial<ModelConfig>]>([
      ['experts', {}],
      ['experts with a pooled auxiliary loss', { auxLossReduction: 'pooled' }],
      ['dense', { numExperts: 1, topK: 1 }],
    ])('gives the same bits for every segment length: %s', (_, changes) => {
      const kept = gradientsOf(0, { changes, kernels });
      for (const every of [1, 2, 3, 4]) {
        const { gradient, result } = gradientsOf(every, { changes, kernels });
        expect(result, `every ${every}`).toEqual(kept.result);
        expect(gradient, `every ${every}`).toEqual(kept.gradient);
      }
    });
  });

  test('does not count the routing of recomputed blocks', () => {
    const [kept, recomputed] = [gradientsOf(0, {}), gradientsOf(1, {})];
    for (let layer = 0; layer < CONFIG.numLayers; layer++) {
      expect(recomputed.model.routing!.load(layer)).toEqual(kept.model.routing!.load(layer));
    }
  });

  test('holds less, and as much as is planned', () => {
    const held = [0, 4, 2, 1].map((every) => {
      const { model } = gradientsOf(every, {});
      expect(model.activationBytes).toBe(model.trainingBytes(3, T, every));
      return model.activationBytes;
    });
    expect(held).toEqual(held.toSorted((a, b) => b - a));
    expect(new Set(held).size).toBe(4);
    expect(held[3]).toBeLessThan(0.55 * held[0]);
  });

  test.each([5, 6, -1, 1.5, Number.NaN])('refuses %d for five layers', (every) => {
    expect(() => gradientsOf(every, {})).toThrow(/checkpointEvery is .* model of 5 layers/);
  });
});

describe('the moving average of the weights', () => {
  /** Weights and average after `steps`, the average reckoned here in float64. */
  function averaged(decay: number, steps: number) {
    const model = modelOf({ dtype: 'f64' });
    const { parameters: store, kernels } = model;
    const optimizer = withEma(adamw.create(parseOptions(adamw, {}), { store, kernels }), store, decay);
    const trainer = new Trainer(model, optimizer, () => 1e-2);
    const { ids, targets } = sequences(2);
    const wanted = new Float64Array(store.total);
    for (let step = 1; step <= steps; step++) {
      trainer.step(ids, targets, 2, T);
      const d = Math.min(decay, (step - 1) / (step + 9));
      for (let i = 0; i < wanted.length; i++) wanted[i] = d * wanted[i] + (1 - d) * store.data[i];
    }
    return { model, optimizer, trainer, wanted, batch: { ids, targets } };
  }

  test.each([
    [0.9, 12],
    [0.2, 12],
    [0.999, 1],
  ])(
    'with decay %d after %i steps is that of the formula, and is exchanged for the weights to the bit',
    (decay, steps) => {
      const { model, optimizer, wanted } = averaged(decay, steps);
      const weights = model.parameters.data.slice();
      for (const on of [false, false, true, true, false]) {
        optimizer.training!(on);
        if (on) expect(model.parameters.data).toEqual(weights);
        else expect(distance(model.parameters.data, wanted)).toBeLessThan(1e-12);
      }
      expect(distance(weights, wanted) > 1e-4).toBe(steps > 1);
    },
  );

  test('does not touch what is trained', () => {
    const { model, optimizer, trainer, batch } = averaged(0.9, 3);
    optimizer.training!(false);
    optimizer.training!(true);
    trainer.step(batch.ids, batch.targets, 2, T);
    const plain = modelOf({ dtype: 'f64' });
    const other = trainerOf(plain, {});
    for (let step = 1; step <= 4; step++) other.step(batch.ids, batch.targets, 2, T);
    expect(model.parameters.data).toEqual(plain.parameters.data);
  });

  test('before the first step is the weights', () => {
    const model = modelOf();
    const { parameters: store, kernels } = model;
    const before = store.data.slice();
    withEma(adamw.create(parseOptions(adamw, {}), { store, kernels }), store, 0.9).training!(false);
    expect(store.data).toEqual(before);
  });
});
