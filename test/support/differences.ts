// Central finite differences in float64, against what a backward kernel computed.

import { expect } from 'vitest';
import { Random } from '../../core/random.ts';
import type { FloatArray } from '../../core/tensor/dtype.ts';

let stream = 0;

/** Normal values, the same at every run of the file. */
export function normal(length: number, deviation = 1): Float64Array {
  const values = new Float64Array(length);
  new Random(11, 'test').fillNormal(values, 0, deviation, stream++);
  return values;
}

const STEP = 1e-5;

/**
 * Checks `gradient` [n] of `loss` with respect to `input` [n]: each element is moved up and down. The error is measured
 * against the largest gradient.
 */
export function expectGradient(
  name: string,
  input: FloatArray,
  gradient: ArrayLike<number>,
  loss: () => number,
  tolerance = 1e-6,
): void {
  let worst = 0;
  let largest = 0;
  for (let i = 0; i < input.length; i++) {
    const kept = input[i];
    input[i] = kept + STEP;
    const above = loss();
    input[i] = kept - STEP;
    const below = loss();
    input[i] = kept;
    const truth = (above - below) / (2 * STEP);
    worst = Math.max(worst, Math.abs(truth - gradient[i]));
    largest = Math.max(largest, Math.abs(truth));
  }
  expect(largest, `${name} has a gradient`).toBeGreaterThan(0);
  expect(worst / largest, `${name}: largest error over largest gradient`).toBeLessThan(tolerance);
}

/** Σ a·b. */
export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < b.length; i++) sum += a[i] * b[i];
  return sum;
}
