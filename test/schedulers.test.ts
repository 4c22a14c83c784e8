// Schedules at their corners, and the optimizer plugins on a model's storage.

import { describe, expect, test } from 'vitest';
import { parseOptionsText } from '../core/config.ts';
import { ParameterStore } from '../core/model/parameters.ts';
import { Registry } from '../core/registry.ts';
import { builtinPlugins } from '../plugins/index.ts';
import { decayRuns } from '../plugins/optimizers/decay-runs.ts';
import { referenceKernels } from './support/kernels.ts';

const schedulers = new Registry('scheduler', builtinPlugins.schedulers ?? []);
const optimizers = new Registry('optimizer', builtinPlugins.optimizers ?? []);

function ratesOf(spec: string, totalSteps: number): number[] {
  const [name, options = ''] = spec.split(':');
  const contribution = schedulers.get(name);
  const schedule = contribution.create(parseOptionsText(contribution, options), { learningRate: 1, totalSteps });
  return Array.from({ length: totalSteps }, (_, i) => schedule(i + 1));
}

test.each<[string, number, number[]]>([
  ['constant', 3, [1, 1, 1]],
  ['constant:warmupSteps=2', 4, [0.5, 1, 1, 1]],
  ['linear:warmupSteps=2,floor=0', 6, [0.5, 1, 0.75, 0.5, 0.25, 0]],
  ['linear:warmupSteps=0,floor=0.2', 4, [0.8, 0.6, 0.4, 0.2]],
  ['warmup-cosine:warmupSteps=1,floor=0', 3, [1, 0.5, 0]],
  ['warmup-cosine:warmupSteps=2,floor=0.1', 4, [0.5, 1, 0.55, 0.1]],
  ['warmup-cosine:warmupSteps=2', 2, [0.5, 1]],
])('%s over %i steps', (spec, steps, rates) => {
  ratesOf(spec, steps).forEach((rate, i) => expect(rate).toBeCloseTo(rates[i], 12));
});

test('the warm-up is a tenth of the run, at most 100 steps, unless said', () => {
  expect(ratesOf('warmup-cosine', 50).indexOf(1)).toBe(4);
  expect(ratesOf('warmup-cosine', 5000).indexOf(1)).toBe(99);
  expect(Math.min(...ratesOf('warmup-cosine', 1))).toBeGreaterThan(0);
});

test.each([
  ['warmup-cosine:warmupSteps=11', /warmupSteps is 11, but the run has only 10 steps/],
  ['linear:floor=2', /linear: floor/],
  ['constant:warmupSteps=-1', /constant: warmupSteps/],
  ['linear:warmup=1', /linear has no option "warmup"/],
])('%s is refused', (spec, message) => expect(() => ratesOf(spec, 10)).toThrow(message));

describe('optimizers', () => {
  const kernels = referenceKernels();

  /** Weights after one step with gradient 0, so that only the decay moves them. */
  function decayed(spec: string): Record<string, number> {
    const store = new ParameterStore('f64');
    for (const role of ['embedding', 'norm', 'attention', 'router', 'expert', 'bias', 'head'] as const)
      store.declare(role, role, [2]);
    store.data.fill(1);
    store.ensureGradients();
    const [name, options = ''] = spec.split(':');
    const contribution = optimizers.get(name);
    const optimizer = contribution.create(parseOptionsText(contribution, options), { store, kernels });
    optimizer.step({ step: 1, learningRate: 0.5, gradientScale: 1 });
    return Object.fromEntries(store.parameters.map(({ role, data }) => [role, data[1]]));
  }

  test('AdamW decays matrices only, or everything', () => {
    const spared = { embedding: 1, norm: 1, bias: 1 };
    const moved = { attention: 0.9, router: 0.9, expert: 0.9, head: 0.9 };
    expect(decayed('adamw:weightDecay=0.2')).toEqual({ ...spared, ...moved });
    expect(Object.values(decayed('adamw:weightDecay=0.2,decay=all')).every((value) => value === 0.9)).toBe(true);
  });

  test('SGD decays everything, and has state only with momentum', () => {
    expect(Object.values(decayed('sgd:weightDecay=0.2')).every((value) => value === 0.9)).toBe(true);
    const store = new ParameterStore('f32');
    store.declare('w', 'head', [3]);
    const sgd = optimizers.get('sgd');
    expect(sgd.create(parseOptionsText(sgd, ''), { store, kernels }).state().size).toBe(0);
    expect(
      sgd.create(parseOptionsText(sgd, 'momentum=0.9'), { store, kernels }).state().get('velocity')?.shape,
    ).toEqual([3]);
  });

  /** Weights of one parameter after each step on f(θ) = ½θ², whose gradient is θ, given at twice its size and scaled back. */
  function descent(spec: string, steps: number): number[] {
    const store = new ParameterStore('f64');
    store.declare('before', 'norm', [3]);
    store.declare('w', 'head', [1]);
    store.data.fill(1);
    store.ensureGradients();
    const [name, options = ''] = spec.split(':');
    const contribution = optimizers.get(name);
    const optimizer = contribution.create(parseOptionsText(contribution, options), { store, kernels });
    return Array.from({ length: steps }, (_, i) => {
      store.gradient.set(store.data.map((value) => 2 * value));
      optimizer.step({ step: i + 1, learningRate: 0.1, gradientScale: 0.5 });
      expect([...store.gradient]).toEqual([0, 0, 0, 0]);
      return store.get('w').data[0];
    });
  }

  test.each<[string, number[]]>([
    ['sgd', [0.9, 0.81, 0.729]],
    ['sgd:weightDecay=0.5', [0.85, 0.7225, 0.614125]],
    // b = g; b = 0.5·b + g; θ -= 0.1·b
    ['sgd:momentum=0.5', [0.9, 0.76, 0.614]],
    // θ -= 0.1·(g + 0.5·b)
    ['sgd:momentum=0.5,nesterov=true', [0.85, 0.6975, 0.559125]],
    // g stands still in the first step: m̂/√v̂ = 1, and the decay takes 0.1·0.2
    ['adamw:weightDecay=0.2', [0.88]],
    ['adamw:weightDecay=0,eps=1', [0.95]],
  ])('%s descends as PyTorch defines it', (spec, expected) => {
    descent(spec, expected.length).forEach((value, i) => expect(value).toBeCloseTo(expected[i], 7));
  });

  test('AdamW follows its equations over steps', () => {
    let [p, m, v] = [1, 0, 0];
    const expected = [1, 2, 3, 4].map((t) => {
      const g = p;
      p *= 1 - 0.1 * 0.3;
      m = 0.8 * m + 0.2 * g;
      v = 0.9 * v + 0.1 * g * g;
      p -= (0.1 * (m / (1 - 0.8 ** t))) / (Math.sqrt(v / (1 - 0.9 ** t)) + 1e-3);
      return p;
    });
    const found = descent('adamw:beta1=0.8,beta2=0.9,eps=1e-3,weightDecay=0.3', 4);
    found.forEach((value, i) => expect(value).toBeCloseTo(expected[i], 12));
  });

  test('neighbours that decay alike are one run', () => {
    const store = new ParameterStore('f32');
    store.declare('a', 'norm', [2]);
    store.declare('b', 'attention', [3, 2]);
    store.declare('c', 'expert', [4]);
    store.declare('d', 'norm', [1]);
    expect(decayRuns(store, ({ role }) => role !== 'norm')).toEqual([
      { offset: 0, count: 2, decays: false },
      { offset: 2, count: 10, decays: true },
      { offset: 12, count: 1, decays: false },
    ]);
  });

  test.each([
    'adamw:beta1=1',
    'adamw:eps=0',
    'adamw:weightDecay=-1',
    'adamw:decay=some',
    'sgd:momentum=2',
    'sgd:beta1=0.9',
  ])('%s is refused', (spec) => expect(() => decayed(spec)).toThrow(/adamw|sgd/));
});
