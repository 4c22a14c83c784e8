// Softmax with max subtraction: y_i = exp(x_i - max x) / Σ_j exp(x_j - max x).

import type { FloatArray } from '../tensor/dtype.ts';
import { exp } from './exp.ts';

/** y [rows,n] = softmax of each row of x; y may be x. */
export function softmax(y: FloatArray, x: FloatArray, rows: number, n: number): void {
  for (let r = 0; r < rows; r++) {
    const row = r * n;
    let max = -Infinity;
    for (let i = 0; i < n; i++) if (x[row + i] > max) max = x[row + i];
    let sum = 0;
    for (let i = 0; i < n; i++) {
      const e = exp(x[row + i] - max);
      y[row + i] = e;
      sum += e;
    }
    const scale = 1 / sum;
    for (let i = 0; i < n; i++) y[row + i] *= scale;
  }
}
