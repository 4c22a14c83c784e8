// The optimizers' own kernels against their equations, written a second time without the gemm: Lion and the parts of Muon.

import { describe, expect, test } from 'vitest';
import { newtonSchulzScratch } from '../core/kernels.ts';
import { normal } from './support/differences.ts';
import { multiplied, orthogonalised, transposed } from './support/muon.ts';
import { referenceKernels } from './support/kernels.ts';

const kernels = referenceKernels();

/** Of Muon (Jordan et al. 2024), the same in each of five steps. */
const JORDAN = Float64Array.from({ length: 15 }, (_, i) => [3.4445, -4.775, 2.0315][i % 3]);
const GUARD = 77;

test('Lion follows its equations, and steps nowhere where nothing points', () => {
  const p = Float64Array.of(GUARD, 1, -2, 3, GUARD);
  const m = Float64Array.of(GUARD, 0.5, -0.1, 0, GUARD);
  const g = Float64Array.of(GUARD, -4, 8, 0, GUARD);
  kernels.lion(p, g, m, 1, 3, 0.1, 0.9, 0.8, 0.2, 0.5);
  // directions: 0.9·0.5 + 0.1·(-2) > 0, 0.9·(-0.1) + 0.1·4 > 0, 0
  const expected = [1 * 0.98 - 0.1, -2 * 0.98 - 0.1, 3 * 0.98];
  expect([...p]).toEqual([GUARD, ...expected, GUARD]);
  [0.8 * 0.5 - 0.2 * 2, -0.08 + 0.8, 0].forEach((value, i) => expect(m[i + 1]).toBeCloseTo(value, 14));
  expect([...g]).toEqual([GUARD, 0, 0, 0, GUARD]);
});

describe('Muon', () => {
  test.each([
    // g' = (0.5, -1); m = 0.9·m + 0.1·g'
    [false, [0.5, 0.8]],
    // g' + 0.9·(m - g')
    [true, [0.5, -1 + 0.9 * 1.8]],
  ])('momentum, Nesterov %s', (nesterov, direction) => {
    const m = Float64Array.of(GUARD, 0.5, 1, GUARD);
    const g = Float64Array.of(GUARD, 1, -2, GUARD);
    kernels.muonMomentum(g, m, 1, 2, 0.9, nesterov, 0.5);
    [GUARD, 0.5, 0.8, GUARD].forEach((value, i) => expect(m[i]).toBeCloseTo(value, 12));
    direction.forEach((value, i) => expect(g[i + 1]).toBeCloseTo(value, 12));
    expect([g[0], g[3]]).toEqual([GUARD, GUARD]);
  });

  describe.each([
    [4, 4],
    [3, 8],
    [9, 2],
    [1, 5],
    [5, 1],
  ])('Newton–Schulz on %i by %i', (rows, columns) => {
    const size = rows * columns;
    const values = [normal(size), normal(size, 1e-3), normal(size, 1e3)];
    const offsets = Float64Array.of(2, size + 5, 2 * size + 6);
    const x = new Float64Array(3 * size + 8).fill(GUARD);
    values.forEach((matrix, i) => x.set(matrix, offsets[i]));
    const scratch = new Float64Array(newtonSchulzScratch(rows, columns) + 1).fill(GUARD);
    kernels.newtonSchulz(x, { offsets, rows, columns }, JORDAN, scratch);
    const matrixAt = (i: number) => x.subarray(offsets[i], offsets[i] + size);

    test('is the iteration as published, and touches nothing around the matrices', () => {
      values.forEach((matrix, i) => {
        const wanted = orthogonalised(matrix, rows, columns, JORDAN);
        wanted.forEach((value, j) => expect(matrixAt(i)[j]).toBeCloseTo(value, 9));
      });
      const gaps = [0, 1, size + 2, size + 3, size + 4, 2 * size + 5, 3 * size + 6, 3 * size + 7];
      expect(gaps.map((i) => x[i])).toEqual(gaps.map(() => GUARD));
      expect(scratch.at(-1)).toBe(GUARD);
    });

    test('brings the singular values near one', () => {
      for (let i = 0; i < 3; i++) {
        const isWide = rows <= columns;
        const [wide, tall] = isWide
          ? [matrixAt(i), transposed(matrixAt(i), rows, columns)]
          : [transposed(matrixAt(i), rows, columns), matrixAt(i)];
        const side = Math.min(rows, columns);
        const gram = multiplied(wide, tall, side, Math.max(rows, columns), side);
        for (let j = 0; j < side; j++) {
          expect(gram[j * side + j]).toBeGreaterThan(0.4);
          expect(gram[j * side + j]).toBeLessThan(1.5);
        }
      }
    });
  });

  test.each([0, 1, 2, 4])('%i steps end where they should', (steps) => {
    const x = normal(6);
    const coefficients = JORDAN.slice(0, 3 * steps);
    const wanted = steps === 0 ? [...x] : [...orthogonalised(x, 2, 3, coefficients)];
    const scratch = new Float64Array(newtonSchulzScratch(2, 3));
    kernels.newtonSchulz(x, { offsets: Float64Array.of(0), rows: 2, columns: 3 }, coefficients, scratch);
    wanted.forEach((value, j) => expect(x[j]).toBeCloseTo(value, 10));
  });

  test('zeros stay zeros, and empty batches nothing', () => {
    const x = new Float64Array(6);
    const scratch = new Float64Array(newtonSchulzScratch(2, 3));
    kernels.newtonSchulz(x, { offsets: Float64Array.of(0), rows: 2, columns: 3 }, JORDAN, scratch);
    expect([...x]).toEqual([0, 0, 0, 0, 0, 0]);
    kernels.newtonSchulz(x, { offsets: new Float64Array(0), rows: 2, columns: 3 }, JORDAN, scratch);
    kernels.newtonSchulz(x, { offsets: Float64Array.of(0), rows: 0, columns: 3 }, JORDAN, new Float64Array(0));
    const v = new Float64Array(2);
    kernels.muonNormalise(x, { offsets: Float64Array.of(0), rows: 2, columns: 3 }, v, 0.9);
    expect([...x, ...v]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  });

  test('NorMuon evens out the rows and keeps the norm of each matrix', () => {
    const [first, second] = [
      [3, 4, 0, 1],
      [1, 1, 2, 2],
    ].map((values) => Float64Array.from(values));
    const x = Float64Array.of(GUARD, ...second, GUARD, ...first);
    const v = Float64Array.of(4, 1, 0, 9);
    kernels.muonNormalise(x, { offsets: Float64Array.of(6, 1), rows: 2, columns: 2 }, v, 0.75);
    const expectMatrix = (matrix: Float64Array, before: number[], offset: number, at: number) => {
      const after = [0, 1].map((r) => 0.75 * before[r] + 0.125 * (matrix[2 * r] ** 2 + matrix[2 * r + 1] ** 2));
      after.forEach((value, r) => expect(v[at + r]).toBeCloseTo(value, 14));
      const scaled = matrix.map((value, i) => value / (Math.sqrt(after[i >> 1]) + 1e-8));
      const ratio = Math.hypot(...matrix) / Math.hypot(...scaled);
      scaled.forEach((value, i) => expect(x[offset + i]).toBeCloseTo(value * ratio, 12));
    };
    expectMatrix(first, [4, 1], 6, 0);
    expectMatrix(second, [0, 9], 1, 2);
    expect([x[0], x[5]]).toEqual([GUARD, GUARD]);
  });

  test.each([
    [false, [0.9 - 0.05, -0.9 - 0.05, 1.8]],
    [true, [0.9 - 0.05, -1 - 0.05, 1.8]],
  ])('the update, cautious %s', (cautious, wanted) => {
    const p = Float64Array.of(GUARD, 1, -1, 2, GUARD);
    const g = Float64Array.of(GUARD, 0.5, 0.5, 0, GUARD);
    kernels.muonUpdate(p, g, 1, 3, 0.1, 0.1, cautious);
    wanted.forEach((value, i) => expect(p[i + 1]).toBeCloseTo(value, 14));
    expect([...g]).toEqual([GUARD, 0, 0, 0, GUARD]);
    expect([p[0], p[4]]).toEqual([GUARD, GUARD]);
  });
});
