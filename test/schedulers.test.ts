// Schedules step by step. Every expected value is worked out by hand from the formula at the head of the schedule's file, or,
// where it says so, from the formula in PyTorch's documentation; none was computed by another program.

import { describe, expect, test } from 'vitest';
import { parseOptionsText } from '../core/config.ts';
import type { Schedule } from '../core/plugin.ts';
import { Registry } from '../core/registry.ts';
import { builtinPlugins } from '../plugins/index.ts';

/** from, from + 1, … to. */
function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

const schedulers = new Registry('scheduler', builtinPlugins.schedulers ?? []);

function scheduleOf(spec: string, totalSteps: number, learningRate = 1): Schedule {
  const [name, options = ''] = spec.split(':');
  const contribution = schedulers.get(name);
  return contribution.create(parseOptionsText(contribution, options), { learningRate, totalSteps });
}

function ratesOf(spec: string, totalSteps: number, learningRate = 1): number[] {
  const schedule = scheduleOf(spec, totalSteps, learningRate);
  return Array.from({ length: totalSteps }, (_, i) => schedule(i + 1));
}

test.each<[string, number, number[]]>([
  ['constant', 3, [1, 1, 1]],
  ['constant:warmupSteps=2', 4, [0.5, 1, 1, 1]],
  ['constant:warmupFraction=0.5', 4, [0.5, 1, 1, 1]],
  ['linear:warmupFraction=0.3,floor=0', 6, [0.5, 1, 0.75, 0.5, 0.25, 0]],
  ['linear:warmupSteps=2,floor=0', 6, [0.5, 1, 0.75, 0.5, 0.25, 0]],
  ['linear:warmupSteps=0,floor=0.2', 4, [0.8, 0.6, 0.4, 0.2]],
  ['warmup-cosine:warmupSteps=1,floor=0', 3, [1, 0.5, 0]],
  ['warmup-cosine:warmupSteps=2,floor=0.1', 4, [0.5, 1, 0.55, 0.1]],
  ['warmup-cosine:warmupSteps=2', 2, [0.5, 1]],
  // (1 - p)^power over p = 1/4, 1/2, 3/4, 1, above a floor of 0.2
  ['polynomial:warmupSteps=0,floor=0', 4, [0.5625, 0.25, 0.0625, 0]],
  ['polynomial:warmupSteps=1,power=1,floor=0.2', 3, [1, 0.6, 0.2]],
  ['polynomial:warmupSteps=0,power=0.5,floor=0', 4, [Math.sqrt(0.75), Math.sqrt(0.5), 0.5, 0]],
  // √(w/t)
  [
    'inverse-sqrt:warmupSteps=4',
    16,
    [0.25, 0.5, 0.75, 1, 2 / Math.sqrt(5), ...range(6, 16).map((t) => 2 / Math.sqrt(t))],
  ],
  ['inverse-sqrt:warmupSteps=0', 4, [1, Math.SQRT1_2, 1 / Math.sqrt(3), 0.5]],
  ['inverse-sqrt:warmupSteps=1,floor=0.5', 4, [1, 0.5 + 0.5 * Math.SQRT1_2, 0.5 + 0.5 / Math.sqrt(3), 0.75]],
  // the last half of ten steps, p = 1/5 … 1
  ['wsd:warmupSteps=2,decayFraction=0.5', 10, [0.5, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0]],
  ['wsd:warmupSteps=0,decayFraction=0.5,floor=0.5', 4, [1, 1, 0.75, 0.5]],
  [
    'wsd:warmupSteps=0,decayFraction=0.4,shape=sqrt',
    10,
    [1, 1, 1, 1, 1, 1, 0.5, 1 - Math.SQRT1_2, 1 - Math.sqrt(0.75), 0],
  ],
  ['wsd:warmupSteps=0,decayFraction=0.5,shape=cosine', 4, [1, 1, 0.5, 0]],
  ['wsd:warmupSteps=1,decayFraction=0', 3, [1, 1, 1]],
  ['wsd:warmupSteps=0,decayFraction=1', 2, [0.5, 0]],
  // floor^p, and gamma^(t - w) as ExponentialLR
  ['exponential:warmupSteps=1,floor=0.0001', 5, [1, 0.1, 0.01, 0.001, 0.0001]],
  ['exponential:warmupSteps=0', 2, [0.1, 0.01]],
  ['exponential:warmupSteps=2,gamma=0.5', 5, [0.5, 1, 0.5, 0.25, 0.125]],
])('%s over %i steps', (spec, steps, rates) => {
  ratesOf(spec, steps).forEach((rate, i) => expect(rate).toBeCloseTo(rates[i], 12));
});

test.each<[string, number[]]>([
  // the peak at step w, the floor at step T
  ['full', [0.5, 1, 0.75, 0.5, 0.25, 0]],
  // the peak at step w + 1, the floor just beyond T
  ['nanogpt', [1 / 3, 2 / 3, 1, 0.75, 0.5, 0.25]],
  ['zero', [0, 0.5, 1, 0.75, 0.5, 0.25]],
])('warm-up rule %s', (rule, rates) => {
  ratesOf(`linear:warmupSteps=2,floor=0,warmupRule=${rule}`, 6).forEach((rate, i) =>
    expect(rate).toBeCloseTo(rates[i], 12),
  );
});

test('every schedule is a share of the learning rate, never below zero or above the peak', () => {
  for (const { name } of schedulers.all()) {
    const [ones, threes] = [ratesOf(name, 40), ratesOf(name, 40, 3)];
    expect(Math.max(...ones), name).toBeCloseTo(1, 12);
    expect(Math.min(...ones), name).toBeGreaterThanOrEqual(0);
    threes.forEach((rate, i) => expect(rate, name).toBeCloseTo(3 * ones[i], 12));
    expect(Number.isFinite(scheduleOf(name, 40)(41)), `${name} beyond the end`).toBe(true);
  }
});

describe('one cycle, by the formula in the documentation of OneCycleLR', () => {
  // ten steps, of which the phase up ends at step 0.3·10 - 1 = 2, counted from 0, and the phase down at 9
  const cosine = (from: number, to: number, p: number) => to + ((from - to) / 2) * (1 + Math.cos(Math.PI * p));

  test('rates', () => {
    const [start, end] = [1 / 25, 1 / 25 / 1e4];
    const expected = [start, 0.52, 1, ...range(1, 7).map((i) => cosine(1, end, i / 7))];
    ratesOf('one-cycle', 10).forEach((rate, i) => expect(rate).toBeCloseTo(expected[i], 12));
  });

  test('in straight lines', () => {
    const expected = [0.5, 0.75, 1, ...range(1, 7).map((i) => 1 - (0.75 * i) / 7)];
    const rates = ratesOf('one-cycle:div=2,finalDiv=2,shape=linear', 10);
    rates.forEach((rate, i) => expect(rate).toBeCloseTo(expected[i], 12));
  });

  test('momentum, the other way', () => {
    const { momentum } = scheduleOf('one-cycle', 10);
    const expected = [0.95, 0.9, 0.85, ...range(1, 7).map((i) => cosine(0.85, 0.95, i / 7))];
    expected.forEach((value, i) => expect(momentum?.(i + 1)).toBeCloseTo(value, 12));
    expect(scheduleOf('one-cycle:cycleMomentum=false', 10).momentum).toBeUndefined();
    expect(scheduleOf('constant', 10).momentum).toBeUndefined();
  });

  test.each([1, 2, 3, 4])('of %i steps', (steps) => {
    for (const rate of ratesOf('one-cycle', steps)) expect(rate > 0 && rate <= 1).toBe(true);
  });
});

test('the warm-up is a tenth of the run, at most 100 steps, unless said', () => {
  expect(ratesOf('warmup-cosine', 50).indexOf(1)).toBe(4);
  expect(ratesOf('warmup-cosine', 5000).indexOf(1)).toBe(99);
  expect(Math.min(...ratesOf('warmup-cosine', 1))).toBeGreaterThan(0);
});

test.each([
  ['warmup-cosine:warmupSteps=11', /warmupSteps is 11, but the run has only 10 steps/],
  ['constant:warmupSteps=1,warmupFraction=0.5', /warmupSteps and warmupFraction are both given/],
  ['constant:warmupFraction=1.5', /constant: warmupFraction/],
  ['wsd:warmupSteps=11', /warmupSteps is 11, but the run has only 10 steps/],
  ['wsd:warmupSteps=5,decayFraction=0.6', /5 steps of warm-up and 6 of decay are more than the run's 10/],
  ['wsd:shape=square', /wsd: shape/],
  ['wsd:decayFraction=NaN', /wsd: decayFraction/],
  ['polynomial:power=0', /polynomial: power/],
  ['polynomial:power=-1', /polynomial: power/],
  ['exponential:floor=0', /exponential: floor/],
  ['exponential:gamma=0.9,floor=0.1', /gamma and floor are both given/],
  ['inverse-sqrt:decayFraction=0.1', /inverse-sqrt has no option "decayFraction"/],
  ['one-cycle:warmupSteps=3', /one-cycle has no option "warmupSteps"/],
  ['one-cycle:pctStart=1', /one-cycle: pctStart/],
  ['one-cycle:baseMomentum=0.96', /baseMomentum is 0.96, above maxMomentum of 0.95/],
  ['constant:warmupRule=none', /constant: warmupRule/],
  ['linear:floor=2', /linear: floor/],
  ['constant:warmupSteps=-1', /constant: warmupSteps/],
  ['linear:warmup=1', /linear has no option "warmup"/],
])('%s is refused', (spec, message) => expect(() => ratesOf(spec, 10)).toThrow(message));
