// The generator against the published vectors of Random123, and what is built on it.

import { describe, expect, test } from 'vitest';
import { normalQuantile } from '../core/normal-quantile.ts';
import { Permutation, philox4x32, Random } from '../core/random.ts';

test.each([
  [[0, 0, 0, 0], [0, 0], '6627e8d5 e169c58d bc57ac4c 9b00dbd8'],
  [Array.from({ length: 4 }, () => 0xffffffff), [0xffffffff, 0xffffffff], '408f276d 41c83b0e a20bc7c6 6d5451fd'],
  [[0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0], 'd16cfe09 94fdcceb 5001e420 24126ea1'],
])('philox4x32-10 of counter %j and key %j', (counter, key, expected) => {
  const out = new Uint32Array(4);
  philox4x32(out, counter[0], counter[1], counter[2], counter[3], key[0], key[1]);
  expect([...out].map((word) => word.toString(16).padStart(8, '0')).join(' ')).toBe(expected);
});

describe('a stream', () => {
  const random = new Random(1, 'test');

  test('is a function of seed, name, step and index', () => {
    expect(new Random(1, 'test').uniform(3, 4)).toBe(random.uniform(3, 4));
    const others = [new Random(2, 'test'), new Random(1, 'other'), new Random(2 ** 40 + 1, 'test')];
    for (const other of others) expect(other.uniform(3, 4)).not.toBe(random.uniform(3, 4));
    expect(random.uniform(4, 3)).not.toBe(random.uniform(3, 4));
    expect(random.uniform(3, 2 ** 32)).not.toBe(random.uniform(3, 0));
  });

  test('is uniform on [0, 1)', () => {
    const values = Array.from({ length: 20000 }, (_, i) => random.uniform(0, i));
    expect(Math.min(...values)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...values)).toBeLessThan(1);
    const bins = Array.from({ length: 10 }, () => 0);
    for (const value of values) bins[Math.floor(value * 10)]++;
    for (const count of bins) expect(Math.abs(count - 2000)).toBeLessThan(200);
  });

  test('gives normal values of the mean and deviation asked for', () => {
    const values = new Float64Array(20001);
    random.fillNormal(values, 3, 2, 0);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
    expect(mean).toBeCloseTo(3, 1);
    expect(Math.sqrt(variance)).toBeCloseTo(2, 1);
    expect(values.every(Number.isFinite)).toBe(true);
  });

  test.each([
    [0.975, 1.959963984540054],
    [0.5 + 2 ** -33, 2.918198e-10],
    [0.8413447460685429, 1],
    [0.0013498980316300933, -3],
    [1e-6, -4.753424308822899],
  ])('the normal value below which a share of %d lies is %d', (share, value) => {
    const word = Math.round(share * 2 ** 32 - 0.5);
    // the word is the nearest of 2^32, so what it stands for differs by up to half a step
    const density = Math.exp((-value * value) / 2) / Math.sqrt(2 * Math.PI);
    expect(Math.abs(normalQuantile(word) - value)).toBeLessThan((0.51 * 2 ** -32) / density + 1e-12);
  });

  test('normal values are odd: a word and its complement give opposite ones', () => {
    for (let i = 0; i < 1000; i++) {
      const word = random.uint32(9, i);
      expect(normalQuantile(0xffffffff - word)).toBe(-normalQuantile(word));
    }
  });

  test.each([-1, 1.5, Number.NaN, 2 ** 53])('refuses the seed %d', (seed) => {
    expect(() => new Random(seed, 'test')).toThrow(RangeError);
  });
});

test.each([1, 2, 3, 5, 64, 1000, 4097])(
  'a permutation of %i visits everything once, in another order for another step',
  (size) => {
    const orderOf = (step: number) => {
      const permutation = new Permutation(size, new Random(1, 'shuffle'), step);
      return Array.from({ length: size }, (_, i) => permutation.permute(i));
    };
    const order = orderOf(0);
    expect(new Set(order).size).toBe(size);
    expect(Math.max(...order)).toBe(size - 1);
    if (size >= 64) expect(orderOf(1)).not.toEqual(order);
  },
);
