// Rotary position embedding: a pair turns by the angle of (position, i). Pairs are (x_i, x_{i+D/2}), half-split, or
// (x_{2i}, x_{2i+1}), interleaved.

import type { FloatArray } from '../tensor/dtype.ts';

/** Half-split: rotates `heads` heads of N rows in place; `inverse` turns back, which is the gradient. */
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
  for (let n = 0; n < N; n++) {
    turn(x, offset + n * stride, 1, D >> 1, cos, sin, positions[n], heads, D, inverse);
  }
}

/** Interleaved: the same for pairs of neighbours. */
export function ropeInterleaved(
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
  for (let n = 0; n < N; n++) turn(x, offset + n * stride, 2, 1, cos, sin, positions[n], heads, D, inverse);
}

/** Turns the heads of one row: pairs begin every `step` elements, and their second elements stand `gap` behind. */
function turn(
  x: FloatArray,
  start: number,
  step: number,
  gap: number,
  cos: FloatArray,
  sin: FloatArray,
  position: number,
  heads: number,
  D: number,
  inverse: boolean,
): void {
  const half = D >> 1;
  const table = position * half;
  const sign = inverse ? -1 : 1;
  for (let h = 0; h < heads; h++) {
    const head = start + h * D;
    for (let i = 0; i < half; i++) {
      const c = cos[table + i];
      const s = sign * sin[table + i];
      const first = head + i * step;
      const a = x[first];
      const b = x[first + gap];
      x[first] = a * c - b * s;
      x[first + gap] = b * c + a * s;
    }
  }
}
