// Operations element by element, and sums over whole arrays.

import type { FloatArray } from '../tensor/dtype.ts';

/** y [count] += x. */
export function add(y: FloatArray, x: FloatArray, count: number): void {
  for (let i = 0; i < count; i++) y[i] += x[i];
}

/** y [count] = factor·x; y may be x. */
export function scale(y: FloatArray, x: FloatArray, factor: number, count: number): void {
  for (let i = 0; i < count; i++) y[i] = factor * x[i];
}

/** y [count] = x held between -limit and limit; y may be x. */
export function clamp(y: FloatArray, x: FloatArray, limit: number, count: number): void {
  for (let i = 0; i < count; i++) y[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
}

/** dx [count] = dy where |x| <= limit, 0 elsewhere; dx may be dy. */
export function clampBackward(dx: FloatArray, dy: FloatArray, x: FloatArray, limit: number, count: number): void {
  for (let i = 0; i < count; i++) dx[i] = x[i] > limit || x[i] < -limit ? 0 : dy[i];
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
