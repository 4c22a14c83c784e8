// What holds for every sampler, whatever the logits.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createChain } from '../core/generation/sampler-chain.ts';
import { LargestValues, MassSelection } from '../core/generation/selection.ts';
import { alphabetTokenizer, kept, samplers, transformed } from './support/samplers.ts';
import { typedArraysMadeBy } from './support/typed-arrays.ts';

const FILTERS = [
  ...['top-k:k=3', 'top-p:p=0.5', 'min-p:p=0.3', 'typical:mass=0.4', 'epsilon-cutoff:epsilon=0.03'],
  ...['eta-cutoff:epsilon=0.3', 'top-a:a=0.9', 'top-n-sigma:n=0.5', 'xtc:probability=1,threshold=0.05'],
];
const SCALES = ['temperature:value=0.3', 'temperature:value=0', 'dynamic-temperature:value=0.5,range=0.5'];
const PENALTIES = [
  ...['repetition-penalty:penalty=1.3', 'frequency-penalty:penalty=2', 'presence-penalty:penalty=3'],
  ...['dry:multiplier=2,allowed=1', 'no-repeat-ngram:size=3'],
];
const CHOSEN = ['logit-bias:biases=1:2|0 1:-inf', 'ban-tokens:ids=1', 'bad-words:ids=0 1', 'force-tokens:ids=1'];
const PICKS = ['greedy', 'sample', 'mirostat'];

const finite = fc.float({ min: -60, max: 60, noNaN: true });
/** Logits with ties and removed tokens, at least one left. */
const logitsOf = fc
  .tuple(fc.array(fc.oneof(finite, finite, fc.constantFrom(-Infinity, 0, 1)), { maxLength: 40 }), finite)
  .map(([others, one]) => Float32Array.from([...others, one]));

test('the lists above are complete', () => {
  const tested = [...FILTERS, ...SCALES, ...PENALTIES, ...CHOSEN, ...PICKS].map((spec) => spec.split(':')[0]);
  expect([...new Set(tested)].sort()).toEqual(samplers.names().sort());
});

test.each(FILTERS)('%s keeps at least one token, changes none that it keeps, and brings none back', (spec) => {
  fc.assert(
    fc.property(logitsOf, (logits) => {
      const after = transformed(spec, logits.slice());
      const left = [...after.keys()].filter((id) => after[id] > -Infinity);
      expect(left.length).toBeGreaterThan(0);
      for (const id of left) expect(after[id]).toBe(logits[id]);
    }),
  );
});

test.each(FILTERS.filter((spec) => !/^(typical|xtc)/.test(spec)))(
  '%s keeps the most likely token, and all above any that it keeps',
  (spec) => {
    fc.assert(
      fc.property(logitsOf, (logits) => {
        const after = transformed(spec, logits.slice());
        const least = Math.min(...after.filter((logit) => logit > -Infinity));
        for (let id = 0; id < logits.length; id++) if (logits[id] > least) expect(after[id]).toBe(logits[id]);
      }),
    );
  },
);

test.each([...SCALES, ...PENALTIES.filter((spec) => !spec.startsWith('no-repeat'))])(
  '%s makes no token NaN or possible again',
  (spec) => {
    fc.assert(
      fc.property(logitsOf, fc.array(fc.nat(45), { maxLength: 30 }), (logits, ids) => {
        const after = transformed(spec, logits.slice(), { ids: [0, ...ids] });
        for (let id = 0; id < logits.length; id++) {
          expect(after[id]).not.toBeNaN();
          if (logits[id] === -Infinity) expect(after[id]).toBe(-Infinity);
        }
        expect(Math.max(...after)).toBeGreaterThan(-Infinity);
      }),
    );
  },
);

describe('top-p', () => {
  test('is what sorting and adding up gives', () => {
    fc.assert(
      fc.property(logitsOf, fc.double({ min: 0.01, max: 0.99, noNaN: true }), (logits, p) => {
        const left = kept(`top-p:p=${p.toFixed(4)}`, logits.slice());
        const weights = [...logits].map((logit) => Math.exp(logit - Math.max(...logits)));
        const order = [...logits.keys()].sort((a, b) => logits[b] - logits[a] || a - b);
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        const mass = (ids: number[]) => ids.reduce((sum, id) => sum + weights[id], 0) / total;
        expect(left).toEqual(order.slice(0, left.length).sort((a, b) => a - b));
        // at a rounding of the mass either answer is right
        expect(mass(left)).toBeGreaterThanOrEqual(Number(p.toFixed(4)) - 1e-12);
        if (left.length > 1) expect(mass(order.slice(0, left.length - 1))).toBeLessThan(Number(p.toFixed(4)) + 1e-12);
      }),
    );
  });
});

test('the k-th largest is what sorting gives', () => {
  const largest = new LargestValues();
  const values = fc.array(fc.oneof(finite, fc.constantFrom(-Infinity, 1, 2)), { minLength: 1, maxLength: 60 });
  fc.assert(
    fc.property(values, fc.nat(), (list, n) => {
      const k = 1 + (n % list.length);
      expect(largest.kth(Float64Array.from(list), k)).toBe(list.sort((a, b) => b - a)[k - 1]);
    }),
  );
});

test('a mass is reached by the fewest keys, at the edges of the range too', () => {
  const selection = new MassSelection();
  const key = fc.oneof(fc.double({ min: -1e300, max: 1e300, noNaN: true }), fc.integer({ min: 0, max: 4 }));
  fc.assert(
    fc.property(
      fc.array(fc.tuple(key, fc.integer({ min: 0, max: 9 })), { minLength: 1, maxLength: 50 }),
      fc.nat(300),
      (pairs, mass) => {
        // whole weights add up exactly
        const keys = Float64Array.from(pairs, ([k]) => k);
        selection.select(
          keys,
          Float64Array.from(pairs, ([, weight]) => weight),
          pairs.length,
          mass,
        );
        const weightOf = (choose: (k: number) => boolean) =>
          pairs.reduce((sum, [k, weight]) => sum + (choose(k) ? weight : 0), 0);
        const total = weightOf(() => true);
        if (mass > total) {
          expect(selection.threshold).toBe(Math.max(...keys));
          return;
        }
        expect(weightOf((k) => k <= selection.threshold)).toBeGreaterThanOrEqual(mass);
        const below = weightOf((k) => k < selection.threshold);
        if (mass > 0) expect(below).toBeLessThan(mass);
        else expect(selection.threshold).toBe(Math.min(...keys));
        expect(selection.ties).toBeGreaterThan(0);
      },
    ),
  );
});

describe('order', () => {
  const same = (first: string, second: string) =>
    fc.assert(
      fc.property(logitsOf, (logits) => {
        const run = (...specs: string[]) =>
          specs.reduce((left, spec) => transformed(spec, left), Float64Array.from(logits));
        expect([...run(first, second)]).toEqual([...run(second, first)]);
      }),
    );

  test.each([
    ['top-k:k=4', 'min-p:p=0.2'], // both keep what lies above a logit that the other does not change
    ['top-k:k=2', 'top-k:k=5'],
    ['min-p:p=0.2', 'min-p:p=0.4'],
    ['top-k:k=3', 'temperature:value=0.5'],
    ['ban-tokens:ids=0', 'logit-bias:biases=0:3'],
  ])('%s and %s may change places', (first, second) => same(first, second));

  test('of others it matters', () => {
    expect(() => same('top-p:p=0.5', 'temperature:value=3')).toThrow();
  });
});

test('temperature 0 is greedy', () => {
  fc.assert(
    fc.property(logitsOf, fc.nat(), (logits, seed) => {
      const context = { ids: [0], promptLength: 1, step: 0 };
      const next = (text: string) => createChain(text, samplers, seed).next(logits.slice(), context);
      expect(next('temperature:value=0;sample')).toBe(next('greedy'));
      expect(next('temperature:value=0;mirostat')).toBe(next('greedy'));
    }),
  );
});

const ALL = [...FILTERS, ...SCALES, ...PENALTIES, ...CHOSEN].map((spec) => `${spec};sample`).concat(PICKS);

test.each(ALL)('%s is a function of the seed', (text) => {
  const run = (seed: number) => {
    const chain = createChain(text, samplers, seed);
    const ids = [0];
    for (let step = 0; step < 12; step++) {
      const logits = Float32Array.from({ length: 30 }, (_, id) => Math.sin(id * id + step));
      ids.push(chain.next(logits, { ids, promptLength: 1, step }));
    }
    return ids;
  };
  expect(run(7)).toEqual(run(7));
  const isSure = /^(greedy|temperature:value=0;)/.test(text);
  if (!isSure) expect([8, 9, 10].some((seed) => run(seed).join() !== run(7).join())).toBe(true);
});

test.each(ALL)('%s names a NaN, and that nothing is left', (text) => {
  const next = (...logits: number[]) =>
    createChain(text, samplers, 1).next(Float32Array.from(logits), { ids: [0], promptLength: 1, step: 9 });
  const nothing = [-Infinity, -Infinity, -Infinity, -Infinity];
  expect(() => next(...nothing)).toThrow(/no token can be chosen: every logit is -Infinity/);
  expect(() => next(1, 2, Number.NaN, 0.5)).toThrow(/no token can be chosen: the logit of id 2 is NaN/);
});

test.each(ALL)('%s makes no typed array after the first token', (text) => {
  const tokenizer = alphabetTokenizer('abcdefghijklmnopqrstuvwxyz');
  const chain = createChain(text, samplers, 1, {}, { tokenizer });
  const logits = new Float32Array(26);
  const ids = Array.from({ length: 20 }, (_, i) => (i * i) % 5);
  const next = (step: number) => {
    for (let id = 0; id < 26; id++) logits[id] = Math.sin(3 * id + step);
    ids.push(chain.next(logits, { ids, promptLength: 20, step }));
  };
  next(0);
  expect(typedArraysMadeBy(() => [1, 2, 3].forEach(next))).toBe(0);
});
