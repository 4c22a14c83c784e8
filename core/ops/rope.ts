// Rotary position embedding, half-split: the pair (x_i, x_{i+D/2}) turns by the angle of (position, i).

import type { FloatArray } from '../tensor/dtype.ts';

/** Rotates `heads` heads of N rows in place; `inverse` turns back, which is the gradient. */
export function rope(
  x: FloatArray,
  offset: number,
  stride: number,
  cos: FloatArray,
  sin: FloatArray,
  positions: Int32Array,
  N: number,
  heads: number,
  D: number,
  inverse: boolean,
): void {
  const half = D >> 1;
  const sign = inverse ? -1 : 1;
  for (let n = 0; n < N; n++) {
    const table = positions[n] * half;
    for (let h = 0; h < heads; h++) {
      const head = offset + n * stride + h * D;
      for (let i = 0; i < half; i++) {
        const c = cos[table + i];
        const s = sign * sin[table + i];
        const a = x[head + i];
        const b = x[head + half + i];
        x[head + i] = a * c - b * s;
        x[head + half + i] = b * c + a * s;
      }
    }
  }
}
