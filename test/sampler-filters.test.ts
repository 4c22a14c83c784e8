// Filters on cases worked by hand from the definition that the head of each plugin names.

import { describe, expect, test } from 'vitest';
import { createChain } from '../core/generation/sampler-chain.ts';
import { kept, logOf, makeSampler, samplers, transformed } from './support/samplers.ts';
import { Random } from '../core/random.ts';

describe('what is kept', () => {
  test.each<[string, number[], number[]]>([
    ['top-k:k=2', [0.1, 0.4, 0.2, 0.3], [1, 3]],
    ['top-k:k=2', [0.1, 0.3, 0.3, 0.3], [1, 2, 3]], // ties with the k-th stay
    ['top-k:k=3', [0, 0.7, 0, 0.3], [1, 3]],
    ['top-k:k=0', [0.1, 0.9], [0, 1]],
    ['top-k:k=9', [0.1, 0.9], [0, 1]],
    ['top-p:p=0.6', [0.1, 0.4, 0.2, 0.3], [1, 3]], // 0.4 is short of 0.6, 0.3 crosses it
    ['top-p:p=0.39', [0.1, 0.4, 0.2, 0.3], [1]],
    ['top-p:p=1e-9', [0.1, 0.4, 0.2, 0.3], [1]], // at least one
    ['top-p:p=1', [0.1, 0.4, 0.2, 0.3], [0, 1, 2, 3]],
    ['top-p:p=0.5', [0.25, 0.25, 0.25, 0.25], [0, 1]], // of equals, the lowest ids
    ['top-p:p=0.5', [0, 0.7, 0, 0.3], [1]], // what was removed stays removed
    ['min-p:p=0.5', [0.1, 0.4, 0.21, 0.29], [1, 2, 3]],
    ['min-p:p=1', [0.1, 0.4, 0.2, 0.3], [1]],
    ['min-p:p=0', [0.1, 0.9], [0, 1]],
    ['temperature:value=0', [0.1, 0.4, 0.4, 0.1], [1]], // greedy, the lowest of equals
    // H = -(0.5 ln 0.5 + 0.3 ln 0.3 + 0.15 ln 0.15 + 0.05 ln 0.05) = 1.142; |-ln p - H| = 0.449, 0.062, 0.755, 1.854:
    // the order is 0.3, 0.5, 0.15, 0.05, so the likeliest is not the most typical
    ['typical:mass=0.2', [0.5, 0.3, 0.15, 0.05], [1]],
    ['typical:mass=0.7', [0.5, 0.3, 0.15, 0.05], [0, 1]],
    ['typical:mass=0.9', [0.5, 0.3, 0.15, 0.05], [0, 1, 2]],
    ['typical:mass=1', [0.5, 0.3, 0.15, 0.05], [0, 1, 2, 3]],
    ['typical:mass=0.5', [0.25, 0.25, 0.25, 0.25], [0, 1, 2, 3]], // ties stay, as in transformers
    ['epsilon-cutoff:epsilon=0.1', [0.05, 0.6, 0.2, 0.15], [1, 2, 3]],
    ['epsilon-cutoff:epsilon=0.9', [0.05, 0.6, 0.2, 0.15], [1]], // the likeliest stays
    ['epsilon-cutoff:epsilon=0', [0.01, 0.99], [0, 1]],
    // H of the uniform 4 is ln 4: min(0.5, √0.5/4) = 0.177 < 0.25
    ['eta-cutoff:epsilon=0.5', [0.25, 0.25, 0.25, 0.25], [0, 1, 2, 3]],
    // H = 0.708: min(0.04, 0.2·e^-0.708 = 0.0985) = 0.04
    ['eta-cutoff:epsilon=0.04', [0.03, 0.8, 0.1, 0.07], [1, 2, 3]],
    // H = 0.708: min(0.2, 0.447·e^-0.708 = 0.220) = 0.2
    ['eta-cutoff:epsilon=0.2', [0.03, 0.8, 0.1, 0.07], [1]],
    // H = 1.280 (0.4 0.3 0.2 0.1): min(0.36, 0.6·e^-1.280 = 0.1669): epsilon alone would keep only 0.4
    ['eta-cutoff:epsilon=0.36', [0.4, 0.3, 0.2, 0.1], [0, 1, 2]],
    ['eta-cutoff:epsilon=0', [0.01, 0.99], [0, 1]],
    ['top-a:a=0.5', [0.4, 0.3, 0.21, 0.09], [0, 1, 2, 3]], // 0.5·0.16 = 0.08
    ['top-a:a=0.6', [0.4, 0.3, 0.21, 0.09], [0, 1, 2]], // 0.6·0.16 = 0.096
    ['top-a:a=1', [0.9, 0.1], [0]],
    ['top-a:a=0', [0.9, 0.1], [0, 1]],
    ['xtc:probability=1,threshold=0.2', [0.4, 0.3, 0.2, 0.1], [2, 3]],
    ['xtc:probability=1,threshold=0.2', [0.1, 0.3, 0.3, 0.3], [0, 3]], // of equals, the last of a stable sort
    ['xtc:probability=1,threshold=0.35', [0.4, 0.3, 0.2, 0.1], [0, 1, 2, 3]], // one alone is no choice
    ['xtc:probability=1,threshold=0.6', [0.4, 0.3, 0.2, 0.1], [0, 1, 2, 3]],
    ['xtc:probability=0,threshold=0.1', [0.4, 0.3, 0.2, 0.1], [0, 1, 2, 3]],
  ])('%s of %j keeps %j', (spec, probabilities, ids) => {
    expect(kept(spec, logOf(...probabilities))).toEqual(ids);
  });

  test.each<[string, number[], number[]]>([
    // mean 2, σ = √((4+1+0+1+4)/5) = √2: 4 - √2 = 2.586, 4 - 1.5·√2 = 1.879
    ['top-n-sigma:n=1', [0, 1, 2, 3, 4], [3, 4]],
    ['top-n-sigma:n=1.5', [0, 1, 2, 3, 4], [2, 3, 4]],
    ['top-n-sigma:n=1', [0, 1, 2, 3, 4].map((x) => x * 7), [3, 4]], // whatever the temperature
    ['top-n-sigma:n=0', [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]],
    // σ over those left: mean 3.5, σ = 0.5, 4 - 0.5 = 3.5
    ['top-n-sigma:n=1', [-Infinity, -Infinity, -Infinity, 3, 4], [4]],
  ])('%s of the logits %j keeps %j', (spec, logits, ids) => {
    expect(kept(spec, Float64Array.from(logits))).toEqual(ids);
  });

  test('a filter sees the probabilities of those left', () => {
    // without the 0.5, 0.3 is 60 % of what is left
    const left = () => Float64Array.of(-Infinity, Math.log(0.3), Math.log(0.15), Math.log(0.05));
    expect(kept('top-p:p=0.55', left())).toEqual([1]);
    expect(kept('epsilon-cutoff:epsilon=0.2', left())).toEqual([1, 2]); // 0.6, 0.3, 0.1
    expect(kept('top-a:a=0.3', left())).toEqual([1, 2]); // 0.3·0.36 = 0.108
  });

  test('probabilities too small for a number are still in order', () => {
    expect(kept('typical:mass=0.9', Float64Array.of(0, -800, -900))).toEqual([0]);
    expect(kept('top-p:p=0.9', Float64Array.of(-900, 0, -800))).toEqual([1]);
  });

  test.each(['sample', 'top-p:p=0.9;sample', 'typical;sample', 'xtc:probability=1;sample', 'mirostat'])(
    '%s takes a token at +Infinity as certain',
    (text) => {
      const chain = createChain(text, samplers, 1);
      for (let step = 0; step < 20; step++) {
        expect(chain.next(Float32Array.of(3, 4, Infinity, 5), { ids: [0], promptLength: 1, step })).toBe(2);
      }
    },
  );
});

describe('temperature', () => {
  test('divides', () => {
    expect([...transformed('temperature:value=0.5', Float64Array.of(2, -4))]).toEqual([4, -8]);
  });

  test('grows with the entropy when it is dynamic', () => {
    const half = Math.log(2);
    // two equal tokens have the largest entropy: T = 0.8 + 0.4
    expect(transformed('dynamic-temperature:value=0.8,range=0.4', Float64Array.of(1.2, 1.2))[0]).toBeCloseTo(1, 12);
    // p = 1/2 1/4 1/4: H = 1.5 ln 2, H / ln 3 = 0.94639; T = 0.5 + 1·0.94639² = 1.39566 with exponent 2
    const logits = Float64Array.of(2 * half, half, half);
    transformed('dynamic-temperature:value=1,range=0.5,exponent=2', logits);
    const temperature = 0.5 + ((1.5 * half) / Math.log(3)) ** 2;
    expect(temperature).toBeCloseTo(1.39566, 5);
    [2 * half, half, half].forEach((logit, id) => expect(logits[id]).toBeCloseTo(logit / temperature, 12));
    // sure of one token, the temperature is value - range, here below 0, which is greedy
    expect(kept('dynamic-temperature:value=1,range=1.5', Float64Array.of(0, 900))).toEqual([1]);
    // removed tokens are not counted: one left, nothing to do
    expect([...transformed('dynamic-temperature', Float64Array.of(-Infinity, 3))]).toEqual([-Infinity, 3]);
  });

  test('of no range is the plain one', () => {
    const plain = transformed('temperature:value=0.7', logOf(0.6, 0.3, 0.1));
    const dynamic = transformed('dynamic-temperature:value=0.7,range=0', logOf(0.6, 0.3, 0.1));
    expect([...dynamic]).toEqual([...plain]);
  });
});

describe('xtc', () => {
  test('excludes as often as it is told to, anew for every token', () => {
    const chain = createChain('xtc:probability=0.3,threshold=0.1;greedy', samplers, 1);
    let excluded = 0;
    for (let step = 0; step < 2000; step++) {
      excluded += chain.next(logOf(0.6, 0.4), { ids: [0], promptLength: 1, step });
    }
    expect(Math.abs(excluded - 600)).toBeLessThan(80); // σ = √(2000·0.3·0.7) = 20
  });
});

describe('mirostat', () => {
  const pick = (spec: string) => {
    const sampler = makeSampler(spec);
    if (sampler.kind !== 'pick') throw new Error('mirostat picks');
    const random = new Random(1, 'test');
    return (probabilities: number[], step: number) =>
      sampler.pick(logOf(...probabilities), { ids: [0], promptLength: 1, step, random });
  };

  test('follows its equations', () => {
    // tau 1, eta 0.5: μ = 2 bits, so p < 1/4 goes; 0.4 and 0.3 stay as 4/7 and 3/7
    const probabilities = [0.4, 0.3, 0.2, 0.1];
    const next = pick('mirostat:tau=1,eta=0.5');
    const uniform = new Random(1, 'test');
    let mu = 2;
    for (let step = 0; step < 50; step++) {
      const allowed = probabilities.map((p, id) => (id === 0 || -Math.log2(p) <= mu ? p : 0));
      const sum = allowed.reduce((total, p) => total + p, 0);
      let left = uniform.uniform(step, 0) * sum;
      const expected = allowed.findIndex((p) => (left -= p) < 0);
      expect(next(probabilities, step), `step ${step}`).toBe(expected);
      mu -= 0.5 * (-Math.log2(allowed[expected] / sum) - 1);
    }
  });

  test('keeps the likeliest token when all are too surprising', () => {
    const next = pick('mirostat:tau=0.1,eta=1e-9'); // μ = 0.2 bits: p >= 0.871
    for (let step = 0; step < 30; step++) expect(next([0.3, 0.4, 0.3], step)).toBe(1);
  });

  test('steers the surprise to its target', () => {
    // 64 tokens, p ∝ 1/rank; unrestrained, the mean surprise is the entropy, 4.9 bits
    const weights = Array.from({ length: 64 }, (_, id) => 1 / (id + 1));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const probabilities = weights.map((weight) => weight / total);
    const surpriseNear = (tau: number) => {
      const next = pick(`mirostat:tau=${tau}`);
      let sum = 0;
      for (let step = 0; step < 3000; step++) {
        const id = next(probabilities, step);
        if (step >= 1000) sum += -Math.log2(probabilities[id]);
      }
      return sum / 2000;
    };
    const [low, high] = [surpriseNear(2), surpriseNear(4)];
    // what is steered is the surprise among those left, so the full one lies above it
    expect(low).toBeGreaterThan(1.8);
    expect(high).toBeGreaterThan(low + 1);
    expect(high).toBeLessThan(4.9);
  });

  test('keeps its state to itself', () => {
    const first = createChain('mirostat:tau=1,eta=0.9', samplers, 1);
    const context = { ids: [0], promptLength: 1 };
    const run = (chain: typeof first) =>
      Array.from({ length: 40 }, (_, step) => chain.next(logOf(0.4, 0.3, 0.2, 0.1), { ...context, step }));
    const ids = run(first);
    expect(run(createChain('mirostat:tau=1,eta=0.9', samplers, 1))).toEqual(ids);
    expect(run(first)).not.toEqual(ids); // the old one goes on from where it was
  });
});
