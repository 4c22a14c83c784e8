// Sums over whole arrays.

import type { FloatArray } from '../tensor/dtype.ts';

/** y [count] += x. */
export function add(y: FloatArray, x: FloatArray, count: number): void {
  for (let i = 0; i < count; i++) y[i] += x[i];
}

/** Σ x², in four interleaved sums so that additions do not wait for each other. */
export function sumOfSquares(x: FloatArray): number {
  const whole = x.length - (x.length % 4);
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  for (let i = 0; i < whole; i += 4) {
    a += x[i] * x[i];
    b += x[i + 1] * x[i + 1];
    c += x[i + 2] * x[i + 2];
    d += x[i + 3] * x[i + 3];
  }
  for (let i = whole; i < x.length; i++) a += x[i] * x[i];
  return a + b + (c + d);
}
